import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms, nms_match, soft_nms
from mmdet.models.layers import multiclass_nms


def iou(a, b, offset):
    """IoU in the type of the boxes; NaN for two boxes without area."""
    one = a.dtype.type(offset)
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + one, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + one, 0)
    area_a, area_b = ((x[2] - x[0] + one) * (x[3] - x[1] + one) for x in (a, b))
    with np.errstate(invalid='ignore'):
        return np.divide(width * height, area_a + area_b - width * height)


def by_score(scores):
    """Indices by falling score, equal scores in order."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def reference_nms(boxes, scores, threshold, offset=0):
    keep = []
    for i in by_score(scores):
        if not any(iou(boxes[j], boxes[i], offset) > boxes.dtype.type(threshold) for j in keep):
            keep.append(i)
    return keep


def reference_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    scores, left, dets, keep = scores.copy(), list(range(len(boxes))), [], []
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        keep.append(best)
        dets.append([*boxes[best], scores[best]])
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                scores[i] *= np.exp(-overlap**2 / sigma)
            elif overlap >= threshold:
                scores[i] *= 1 - overlap if method == 'linear' else 0
            if scores[i] < min_score:
                left.remove(i)
    return np.array(dets), keep


def random_boxes(seed, count=30, dtype=np.float32):
    """Crowded boxes and distinct scores."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 20, (count, 2)), rng.uniform(1, 15, (count, 2))
    boxes, scores = np.hstack([corner, corner + size]), rng.permutation(count) / count + 0.01
    return boxes.astype(dtype), scores.astype(dtype)


# Whole numbers make IoUs exact, ties with the threshold included; boxes may be inverted or empty.
coordinate = st.integers(-3, 9)
whole_boxes = st.lists(st.tuples(*[coordinate] * 4, st.integers(0, 4)), max_size=12)


@given(rows=whole_boxes, threshold=st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.6, 0.7, 1.0]),
       offset=st.integers(0, 1))
@settings(max_examples=300)
def test_nms_of_any_boxes(rows, threshold, offset):
    rows = np.array(rows, dtype=np.float32).reshape(-1, 5)
    boxes, scores = rows[:, :4].copy(), rows[:, 4] / 4
    dets, keep = nms(boxes, scores, threshold, offset)
    assert keep.tolist() == reference_nms(boxes, scores, threshold, offset)
    np.testing.assert_array_equal(dets, np.hstack([boxes, scores[:, None]])[keep])


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5])
def test_nms_of_crowds(seed, offset, threshold):
    boxes, scores = random_boxes(seed, 60)
    expected = reference_nms(boxes, scores, threshold, offset)
    assert 1 < len(expected) < 60
    assert nms(boxes, scores, threshold, offset)[1].tolist() == expected
    assert nms(boxes, scores, threshold, offset, max_num=2)[1].tolist() == expected[:2]
    above = reference_nms(boxes[scores > 0.5], scores[scores > 0.5], threshold, offset)
    indices = nms(boxes, scores, threshold, offset, score_threshold=0.5)[1]
    assert indices.tolist() == np.flatnonzero(scores > 0.5)[above].tolist()


@pytest.mark.parametrize('tenths', range(1, 10))
def test_an_iou_of_exactly_the_threshold_does_not_suppress(tenths):
    boxes = torch.tensor([[0, 0, 10, 1], [0, 0, tenths, 1.]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), tenths / 10)[1].tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), tenths / 10 - 1e-3)[1].tolist() == [0]


@pytest.mark.parametrize('box_type', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('score_type', [torch.float16, torch.float32, torch.float64])
def test_nms_takes_any_floating_types(box_type, score_type):
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 28, 28]], dtype=box_type)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=score_type)
    dets, keep = nms(boxes, scores, 0.5)
    assert keep.tolist() == [1, 2]
    assert dets[:, 4].tolist() == [0.75, 0.25]


@pytest.mark.parametrize('split', [10000, 5])
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('max_num', [-1, 4])
def test_batched_nms_suppresses_within_classes(split, seed, max_num):
    boxes, scores = random_boxes(seed, 40)
    boxes = boxes.round()
    classes = np.random.default_rng(seed).integers(0, 3, 40)
    keep = [i for c in range(3) for i in np.flatnonzero(classes == c)[
        reference_nms(boxes[classes == c], scores[classes == c], 0.3)]]
    keep = sorted(keep, key=lambda i: -scores[i])[:max_num if max_num > 0 else None]
    config = dict(type='nms', iou_threshold=0.3, split_thr=split, max_num=max_num)
    dets, indices = batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), config)
    assert indices.tolist() == keep
    np.testing.assert_array_equal(dets.numpy(), np.hstack([boxes, scores[:, None]])[keep])


@pytest.mark.parametrize('count', [0, 40])
def test_class_agnostic_batched_nms(count):
    boxes, scores = random_boxes(0, count)
    classes = torch.arange(count) % 3
    config = dict(type='nms', iou_threshold=0.3)
    indices = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), classes, config, True)[1]
    assert indices.tolist() == reference_nms(boxes, scores, 0.3)


def test_multiclass_nms_of_mmdet():
    boxes = random_boxes(1, 25)[0].round()
    scores = np.random.default_rng(1).permutation(25 * 4).reshape(25, 4).astype(np.float32) / 100
    dets, labels = multiclass_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores), 0.3, dict(type='nms', iou_threshold=0.4), 10)
    expected = []
    for c in range(3):
        above = np.flatnonzero(scores[:, c] > 0.3)
        expected += [(scores[i, c], c, *boxes[i])
                     for i in above[reference_nms(boxes[above], scores[above, c], 0.4)]]
    expected = sorted(expected, reverse=True)[:10]
    assert len(expected) == 10
    assert [(s, c, *box) for (*box, s), c in zip(dets.tolist(), labels.tolist())] == expected


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('seed', range(4))
def test_soft_nms_follows_its_formula(method, offset, seed):
    boxes, scores = random_boxes(seed, 25, np.float64)
    arguments = 0.3, 0.5, 0.05, method, offset
    expected, keep = reference_soft_nms(boxes, scores, *arguments)
    assert len(keep) < 25
    given_scores = scores.copy()
    dets, indices = soft_nms(boxes, scores, *arguments)
    assert indices.tolist() == keep
    np.testing.assert_allclose(dets, expected, rtol=1e-12)
    np.testing.assert_array_equal(scores, given_scores)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_of_few_and_degenerate_boxes(method):
    assert soft_nms(torch.zeros(0, 4), torch.zeros(0), method=method)[0].shape == (0, 5)
    # The best box stays, however low its score.
    assert soft_nms(torch.ones(1, 4), torch.tensor([1e-6]), method=method)[1].tolist() == [0]
    # Empty, inverted and far boxes overlap nothing; their order is that of their scores.
    boxes = torch.tensor([[3, 3, 3, 3], [3, 3, 3, 3], [9, 9, 5, 5], [20, 20, 30, 30], [5, 5, 9, 9.]])
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    dets, keep = soft_nms(boxes, scores, method=method)
    assert keep.tolist() == [4, 3, 2, 1, 0]
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1).flip(0), atol=0, rtol=0)


@given(rows=whole_boxes, threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_nms_match_groups_what_nms_would_drop(rows, threshold):
    dets = np.array(rows, dtype=np.float32).reshape(-1, 5)
    left, expected = by_score(dets[:, 4]), []
    while left:
        group = [i for i in left if i == left[0] or iou(dets[left[0]], dets[i], 0) >= threshold]
        expected.append(group)
        left = [i for i in left if i not in group]
    assert [group.tolist() for group in nms_match(torch.from_numpy(dets), threshold)] == expected
