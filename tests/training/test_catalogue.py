"""Lists of videos: labels are explicit, scenes are never parted, mistakes are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import catalogue


def test_a_list_is_read_by_its_columns(tmp_path: Path) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_text("scene,label,path,fold,duration_s\ngate,1,set/abnormal/a.mp4,3,2.5\n")
    assert catalogue.read(listing) == (
        catalogue.Video(id="set/abnormal/a", path="set/abnormal/a.mp4", label=1, scene="gate", fold=3, duration_s=2.5),
    )


def test_a_list_without_scenes_is_one_camera(tmp_path: Path) -> None:
    listing = tmp_path / "gate" / "clips.csv"
    listing.parent.mkdir()
    listing.write_text("path,label\na.mp4,1\nb.mp4,0\n")
    assert {video.scene for video in catalogue.read(listing)} == {"gate"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,scene\na.mp4,s\n", "the column label is missing"),
        ("path,label,scene\na.mp4,abnormal,s\n", "label must be 0 or 1"),
        ("path,label,scene\na.mp4,1,s\na.mp4,1,s\n", "a.mp4 is listed twice"),
    ],
)
def test_a_mistake_in_a_list_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_text(text)
    with pytest.raises(catalogue.CatalogueError, match=sentence):
        catalogue.read(listing)


def test_a_scene_in_two_folds_is_refused() -> None:
    def video(name: str, fold: int) -> catalogue.Video:
        return catalogue.Video(id=name, path=name, label=0, scene="gate", fold=fold)

    with pytest.raises(catalogue.CatalogueError, match="scene gate lies in two folds"):
        catalogue.folds((video("a", 0), video("b", 1)))


def test_a_users_folder_gives_its_labels_by_its_two_folders(tmp_path: Path) -> None:
    for name in ("normal/a.mp4", "abnormal/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert [(video.id, video.label) for video in catalogue.folder(tmp_path)] == [
        ("normal/a", 0),
        ("abnormal/b", 1),
    ]
    (tmp_path / "normal/a.mp4").unlink()
    with pytest.raises(catalogue.CatalogueError, match="no clips there"):
        catalogue.folder(tmp_path)


def test_the_given_folds_never_part_a_scene_within_or_across_the_sets(shared_data: Path) -> None:
    videos = catalogue.local(shared_data, ("industrial", "fights"))
    assert len(videos) == 469
    assert sum(video.label for video in videos) == 228
    assert catalogue.folds(videos) == (0, 1, 2, 3, 4)
