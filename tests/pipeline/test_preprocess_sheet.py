"""The sheet shows every preprocessing, and why one refuses."""

import numpy as np

from fundusray.data.prepared.preprocess import PREPROCESS, graham
from fundusray.pipeline.preprocess_sheet import preprocess_sheet


def test_a_row_shows_the_photograph_and_every_preprocessing(fundus: np.ndarray) -> None:
    rows = preprocess_sheet([("13_left", fundus), ("stripe", fundus[:, 58:70])], 48)
    assert len(rows) == 2
    for row in rows:
        captions = [caption.split(",")[0] for _, caption in row]
        assert len(row) == len(PREPROCESS) + 2
        assert set(captions[1:]) == {*PREPROCESS, "graham clip=0.9"}
        assert all(image.shape == (48, 48, 3) for image, _ in row[1:])
        assert all(image.dtype == np.uint8 for image, _ in row)
    assert rows[0][0][1] == "13_left, as taken"
    assert rows[0][0][0].shape == (36, 48, 3)  # 96 x 128 within 48 x 48
    made = {caption: image for image, caption in rows[0]}
    assert (made["graham"] == graham(fundus, 48).pixels).all()
    assert (made["graham clip=0.9"] == graham(fundus, 48, clip=0.9).pixels).all()


def test_a_refused_photograph_is_black_with_the_reason(fundus: np.ndarray) -> None:
    (row,) = preprocess_sheet([("stripe", fundus[:, 58:70])], 48)
    refused = {caption: image for image, caption in row if "refused" in caption}
    assert len(refused) == len(PREPROCESS)  # all but center_crop, graham twice
    for caption, image in refused.items():
        assert "refused: no fundus: the lit area" in caption and not image.any()
