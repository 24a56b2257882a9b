"""Lists of videos: labels are explicit, scenes are never parted, mistakes are sentences."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_list_may_name_ids_classes_and_the_published_split(tmp_path: Path) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_text("id,path,label,class,scene,split\nArson011_x264,Arson/Arson011_x264.mp4,1,Arson,a,test\n")
    assert catalogue.read(listing) == (
        catalogue.Video(
            id="Arson011_x264", path="Arson/Arson011_x264.mp4", label=1, kind="Arson", scene="a", split="test"
        ),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,scene\na.mp4,s\n", r"clips.csv: the column label is missing"),
        ("", r"clips.csv: the column label is missing"),
        ("path,label\na.mp4,1\nb.mp4,abnormal\n", r"clips.csv:3: label must be 0 or 1 \(got 'abnormal'\)"),
        ("path,label\na.mp4\n", r"clips.csv:2: label must be 0 or 1 \(got ''\)"),
        ("path,label\n,1\n", r"clips.csv:2: path is empty"),
        ("path,label,scene\na.mp4,1,s\na.mp4,1,s\n", r"clips.csv:3: a.mp4 is listed twice"),
        ("path,label,id\na.mp4,1,x\nb.mp4,1,x\n", r"clips.csv:3: b.mp4 is listed twice \(id x\)"),
        ("path,label\nwith, comma.mp4,1\n", r"clips.csv:2: more values than columns"),
        ("path,label,fold\na.mp4,1,one\n", r"clips.csv:2: fold must be a whole number, .* \(got 'one'\)"),
        ("path,label,frames\na.mp4,1,-5\n", r"clips.csv:2: frames must be a whole number, .* \(got '-5'\)"),
        ("path,label,width\na.mp4,1,25.6\n", r"clips.csv:2: width must be a whole number, .* \(got '25.6'\)"),
        ("path,label,duration_s\na.mp4,1,2 s\n", r"clips.csv:2: duration_s must be seconds, .* \(got '2 s'\)"),
        ("path,label,duration_s\na.mp4,1,nan\n", r"clips.csv:2: duration_s must be seconds, .* \(got 'nan'\)"),
        ("path,label,split\na.mp4,1,val\n", r"clips.csv:2: split must be train, test or empty \(got 'val'\)"),
    ],
)
def test_a_mistake_in_a_list_is_a_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_text(text)
    with pytest.raises(catalogue.CatalogueError, match=sentence):
        catalogue.read(listing)


def test_a_list_that_a_spreadsheet_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_bytes(b"\xef\xbb\xbfpath,label\r\na.mp4,1\r\n")
    assert [video.path for video in catalogue.read(listing)] == ["a.mp4"]


def test_a_list_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(catalogue.CatalogueError, match="not a CSV in UTF-8"):
        catalogue.read(listing)
    with pytest.raises(catalogue.CatalogueError, match="no such list of videos"):
        catalogue.read(tmp_path / "none.csv")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
NUMBER = st.none() | st.integers(0, 10**9)
VIDEO = st.builds(
    catalogue.Video,
    id=TEXT,
    path=TEXT,
    label=st.sampled_from((0, 1)),
    scene=TEXT,
    kind=st.none() | TEXT,
    split=st.sampled_from(("train", "test", None)),
    fold=NUMBER,
    duration_s=st.none() | st.floats(0, 1e9),
    width_px=NUMBER,
    height_px=NUMBER,
    frames=NUMBER,
)


@given(st.lists(VIDEO, max_size=5, unique_by=lambda video: video.id))
def test_what_is_written_is_read_back(videos: list[catalogue.Video]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "made" / "clips.csv"
        catalogue.write(listing, videos)
        assert catalogue.read(listing) == tuple(videos)


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
