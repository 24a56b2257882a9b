"""Feature files as they are found: both published layouts, sound, one file of many videos; faults name the video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from training import datasets, features
from training.catalogue import Video
from training.features import FeatureError, Features


def video(name: str) -> Video:
    return Video(id=name, path=f"{name}.mp4", label=0, scene=name)


def numbers(*shape: int, dtype: type = np.float32) -> npt.NDArray[np.floating]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


@pytest.mark.parametrize("file", ["Abuse001_x264.npy", "Abuse001_x264_i3d.npy", "UCF_Train/Abuse001_x264_i3d.npy"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_file_a_video_is_taken_as_it_is_and_memory_mapped(tmp_path: Path, file: str, dtype: type) -> None:
    save(tmp_path / file, numbers(3, 10, 4, dtype=dtype))
    found = features.load(tmp_path, [video("Abuse001_x264")])["Abuse001_x264"]
    assert isinstance(found.features_NCD, np.memmap)
    assert found.features_NCD.dtype == dtype
    assert (len(found), found.crops, found.dimensions) == (3, 10, 4)
    assert (found.features_NCD == numbers(3, 10, 4)).all()


def test_a_file_without_crops_is_one_crop(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", numbers(3, 4))
    found = features.load(tmp_path, [video("a")])["a"].features_NCD
    assert isinstance(found, np.memmap)
    assert found.shape == (3, 1, 4)


def test_our_own_files_keep_their_times(tmp_path: Path) -> None:
    made = Features(
        features_NCD=numbers(2, 1, 4), times_N2=np.ones((2, 2), np.float32), motion_NM=np.ones((2, 6), np.float32)
    )
    features.write(tmp_path, "set/normal/a.b", made)
    found = features.load(tmp_path, [video("set/normal/a.b")])["set/normal/a.b"]
    assert found.times_N2 is not None and found.times_N2.shape == (2, 2)


def test_one_file_a_crop_is_stacked_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    for crop in range(10):
        save(tmp_path / "RGB" / f"v=a__#1_label_A__{crop}.npy", np.full((3, 2), crop, np.float16))
    found = features.load(tmp_path, [video("v=a__#1_label_A")])["v=a__#1_label_A"].features_NCD
    assert found.dtype == np.float16
    assert found.shape == (3, 10, 2)
    assert found[1, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("pictures", "sound", "both"), [(4, 4, 4), (5, 4, 4), (4, 5, 4)])
def test_sound_serves_all_crops_and_the_longer_loses_its_last_row(
    tmp_path: Path, pictures: int, sound: int, both: int
) -> None:
    for crop in range(5):
        save(tmp_path / f"a__{crop}.npy", np.full((pictures, 2), crop, np.float32))
    save(tmp_path / "audio" / "a__vggish.npy", 100 + numbers(sound, 3))
    found = features.load(tmp_path, [video("a")], audio=tmp_path / "audio")["a"].features_NCD
    assert found.shape == (both, 5, 5)
    assert found[1, 3].tolist() == [3, 3, 103, 104, 105]
    assert found[-1, 0].tolist() == [0, 0, 100 + 3 * both - 3, 100 + 3 * both - 2, 100 + 3 * both - 1]


@pytest.mark.parametrize(("pictures", "sound"), [(6, 4), (4, 6)])
def test_sound_that_is_further_off_is_refused(tmp_path: Path, pictures: int, sound: int) -> None:
    save(tmp_path / "a.npy", numbers(pictures, 2))
    save(tmp_path / "a__vggish.npy", numbers(sound, 2))
    with pytest.raises(FeatureError, match=f"^a: {pictures} segments of pictures, but {sound} of sound"):
        features.load(tmp_path, [video("a")], audio=tmp_path)


def test_what_was_joined_is_kept_and_memory_mapped(tmp_path: Path) -> None:
    for crop in range(2):
        save(tmp_path / "rgb" / f"a__{crop}.npy", np.full((3, 2), crop, np.float16))
    save(tmp_path / "audio" / "a__vggish.npy", numbers(3, 1).astype(np.float16))
    for _ in range(2):
        found = features.load(
            tmp_path / "rgb", [video("a")], audio=tmp_path / "audio", keep=tmp_path / "joined"
        )["a"].features_NCD  # fmt: skip
        assert isinstance(found, np.memmap)
        assert found.dtype == np.float16
        assert found[:, 1].tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 2]]
    assert features.read(tmp_path / "joined", "a").crops == 2
    with pytest.raises(FeatureError, match="was joined from other files"):
        features.load(tmp_path / "rgb", [video("a")], keep=tmp_path / "joined")


def two_crops(folder: Path, *arrays: npt.NDArray[np.generic]) -> None:
    for crop, array in enumerate(arrays):
        save(folder / f"a__{crop}.npy", array)


def test_crops_that_differ_in_length_are_refused_with_the_videos_id(tmp_path: Path) -> None:
    two_crops(tmp_path, numbers(3, 2), numbers(4, 2))
    with pytest.raises(FeatureError, match=r"^a: its crops differ: crop 0 has 3 segments .* crop 1 has 4"):
        features.load(tmp_path, [video("a")])


def test_a_crop_that_is_missing_is_refused(tmp_path: Path) -> None:
    two_crops(tmp_path, numbers(3, 2), numbers(3, 2), numbers(3, 2))
    (tmp_path / "a__1.npy").unlink()
    with pytest.raises(FeatureError, match=r"^a: has crops 0, 2; one before the last is missing"):
        features.load(tmp_path, [video("a")])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (numbers(3, 2, dtype=np.float64), "^a: .*a.npy holds float64; expected float16 or float32"),
        (numbers(3), r"^a: .*a.npy has shape \(3,\); expected \(segments, dimensions\) or \(segments, crops, dimens"),
        (numbers(0, 10, 2), r"^a: .*a.npy is empty \(shape \(0, 10, 2\)\)"),
        (np.array([{}], dtype=object), "^a: .*a.npy is no array that can be read"),
    ],
)
def test_an_array_of_another_kind_is_refused(tmp_path: Path, array: npt.NDArray[np.generic], sentence: str) -> None:
    save(tmp_path / "a.npy", array)
    with pytest.raises(FeatureError, match=sentence):
        features.load(tmp_path, [video("a")])


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", numbers(30, 2))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-50])
    with pytest.raises(FeatureError, match=r"^a: .*a.npy is no array that can be read"):
        features.load(tmp_path, [video("a")])


def test_missing_files_are_counted_and_the_names_looked_for_are_said(tmp_path: Path) -> None:
    save(tmp_path / "a_i3d.npy", numbers(3, 2))
    with pytest.raises(
        FeatureError, match=r"^b: no features; looked for b.npy or b_i3d.npy below .* \(2 of 3 videos have none\)"
    ):
        features.load(tmp_path, [video("a"), video("b"), video("c")])
    with pytest.raises(FeatureError, match=r"^a: no features; looked for a__vggish.npy"):
        features.load(tmp_path, [video("a")], audio=tmp_path)
    with pytest.raises(FeatureError, match="no such folder of features"):
        features.load(tmp_path / "none", [video("a")])


def test_two_files_of_one_video_are_never_chosen_from(tmp_path: Path) -> None:
    for folder in ("RGB", "Flow"):
        save(tmp_path / folder / "a__0.npy", numbers(3, 2))
    with pytest.raises(FeatureError, match=r"^a: two files, .*; name the folder that holds one"):
        features.load(tmp_path, [video("a")])
    save(tmp_path / "RGBTest" / "b__0.npy", numbers(3, 2))
    found = features.load([tmp_path / "RGB", tmp_path / "RGBTest"], [video("a"), video("b")])
    assert list(found) == ["a", "b"]


def test_an_id_with_folders_is_never_served_by_another_folders_file(tmp_path: Path) -> None:
    save(tmp_path / "abnormal" / "a.npy", numbers(3, 2))
    with pytest.raises(FeatureError, match=r"^normal/a: no features"):
        features.load(tmp_path, [video("normal/a")])


def test_videos_that_differ_in_crops_or_dimensions_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", numbers(3, 10, 2))
    save(tmp_path / "b.npy", numbers(10, 3, 2))  # axes the other way round
    with pytest.raises(FeatureError, match=r"^b: 3 crops of 2 dimensions, but a has 10 of 2"):
        features.load(tmp_path, [video("a"), video("b")])


def pets(path: Path, **changed: npt.NDArray[np.generic]) -> Path:
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for split in ("train", "test"):
        arrays |= {
            f"{split}_videos": np.array([f"{split} a", f"{split} b"]),
            f"{split}_labels": np.array([0, 1], np.uint8),
            f"{split}_segments": np.array([1, 2]),
            f"{split}_features": numbers(3, 2),
            f"{split}_frame_labels": np.repeat(np.array([[0], [0], [1]], np.uint8), 16, axis=1),
        }
    np.savez(path, **(arrays | changed))  # type: ignore[arg-type]
    return path


def test_a_file_of_many_videos_is_cut_at_their_lengths(tmp_path: Path) -> None:
    held = features.read_pets(pets(tmp_path / "events_view1.npz"))
    assert held.features["events_view1/train b"].features_NCD.tolist() == [[[2, 3]], [[4, 5]]]
    assert held.frame_labels["events_view1/test b"].tolist() == [0] * 16 + [1] * 16
    assert held.test == ("events_view1/test a", "events_view1/test b")
    found = features.load(tmp_path, [video("events_view1/test a")])
    assert found["events_view1/test a"].features_NCD.tolist() == [[[0, 1]]]
    with pytest.raises(FeatureError, match=r"^events_view1/c: its file holds other videos"):
        features.load(tmp_path, [video("events_view1/c")])
    with pytest.raises(FeatureError, match=r"^s3_view1/a: no features; looked for s3_view1.npz"):
        features.load(tmp_path, [video("events_view1/test a"), video("s3_view1/a")])


def test_lengths_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="the test videos have 4 segments, but there are 3 rows of features and 3"):
        features.read_pets(pets(tmp_path / "events_view1.npz", test_segments=np.array([1, 3])))


def test_pets_2009_is_read_whole(shared_data: Path) -> None:
    videos = datasets.read("pets2009_i3d", shared_data / "pets2009_i3d")
    found = features.load(shared_data / "pets2009_i3d", videos)
    assert len(found) == 208
    assert {(one.crops, one.dimensions) for one in found.values()} == {(1, 1024)}
    assert sum(map(len, found.values())) == 4 * (259 + 269 + 193 + 275)
    for view in (1, 2, 3, 4):
        held = features.read_pets(shared_data / "pets2009_i3d" / f"s3_view{view}.npz")
        assert {key: int(labels.max()) for key, labels in held.frame_labels.items()} == {
            one.id: one.label for one in videos if one.source == f"s3_view{view}"
        }
