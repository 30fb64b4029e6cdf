"""Targets of windows: those of their image, of the objects that they overlap, or of their pixels."""

import pytest
import torch

from mmltm.ib import BatchTargets, BottleneckReport, ClassStatistics, LabelMaps, ObjectBoxes

ROWS, COLS = [0, 0.25, 0.75, 1], [0, 0.5, 1]


def boxes(*objects):
    """From (image, label, x0, y0, x1, y1)."""
    table = torch.tensor(objects, dtype=torch.float64).view(-1, 6)
    return ObjectBoxes(table[:, 2:], table[:, 1].long(), table[:, 0].long())


def distribution(objects, images=2, classes=9):
    shares = torch.zeros(images, classes, dtype=torch.float64)
    for image, label, *_ in objects:
        shares[int(image), int(label)] += 1
    return torch.nn.functional.normalize(shares, p=1.0)


def windows(*objects):
    """Shares over all nine classes of two images' 3 x 2 windows, (2, 3, 2, 9)."""
    targets = BatchTargets.of(distribution(objects), 9, boxes(*objects)).for_windows(ROWS, COLS)
    assert targets.places is None and targets.shares.shape == (12, len(targets.classes))
    shares = torch.zeros(12, 9, dtype=torch.float64)
    shares[:, targets.classes] = targets.shares
    return shares.view(2, 3, 2, 9)


@pytest.mark.parametrize('targets', [torch.tensor([4, 0]), torch.tensor([[0.3, 0.7, 0], [0, 0, 0]])])
def test_windows_of_a_classifier_have_the_classes_of_their_image(targets):
    """Labels, and the scores of Mixup; an image without a target has no windows with one."""
    image = BatchTargets.of(targets, 9 if targets.ndim == 1 else 3)
    window = image.for_windows(ROWS, COLS)
    assert window.classes.equal(image.classes)
    assert window.shares.view(2, 6, -1).equal(image.shares[:, None].expand(-1, 6, -1))


def test_a_planted_object_changes_its_windows_and_no_others():
    before = windows((0, 7, 0, 0, 0.5, 0.1), (1, 2, 0, 0, 1, 1))
    after = windows((0, 7, 0, 0, 0.5, 0.1), (1, 2, 0, 0, 1, 1), (0, 3, 0.1, 0.2, 0.3, 0.4))
    changed = (before != after).any(-1)
    # It lies in the upper two rows of the left column of the first image.
    assert changed.nonzero().tolist() == [[0, 0, 0], [0, 1, 0]]
    # In the first of them beside another object: 0.2 x 0.05 and 0.5 x 0.1.
    torch.testing.assert_close(after[0, 0, 0, [3, 7]], torch.tensor([1 / 6, 5 / 6]).double())
    assert after[0, 1, 0, 3] == 1 and after[0, 1:, 1].eq(0).all() and after[1, :, :, 2].eq(1).all()


def test_images_without_an_object():
    assert windows().eq(0).all()
    shares = windows((1, 5, 0, 0, 1, 1))
    assert shares[0].eq(0).all() and shares[1, :, :, 5].eq(1).all()


def test_overlaps_add_up_to_the_boxes_and_agree_with_pixels():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(20, 2, 2, generator=generator, dtype=torch.float64).sort(1).values
    corners = (corners * 40).round() / 40
    objects = ObjectBoxes(corners.flatten(1), torch.zeros(20).long(), torch.zeros(20).long())
    areas = objects.overlaps(ROWS, COLS)
    torch.testing.assert_close(areas.sum((1, 2)), (corners[:, 1] - corners[:, 0]).prod(1))
    for area, box in zip(areas, (objects.corners * 40).round().long().tolist()):
        pixels = torch.zeros(40, 40, dtype=torch.float64)
        pixels[box[1]:box[3], box[0]:box[2]] = 1 / 1600
        expected = [[part.sum() for part in row.split(20, 1)] for row in pixels.split([10, 20, 10])]
        torch.testing.assert_close(area, torch.tensor(expected, dtype=torch.float64))


def test_one_window_has_the_objects_of_the_image_by_area():
    whole = BatchTargets.of(distribution([(0, 1), (0, 2)], 1), 9, boxes((0, 1, 0, 0, 0.5, 1), (0, 2, 0.9, 0.9, 1.4, 1)))
    torch.testing.assert_close(whole.for_windows([0, 1], [0, 1]).shares, torch.tensor([[50 / 51, 1 / 51]]).double())


def test_windows_of_a_label_map_have_the_shares_of_their_pixels():
    """An ignored pixel counts for nothing; a window of such pixels alone takes no part."""
    maps = torch.randint(-1, 9, (2, 8, 6), generator=torch.Generator().manual_seed(0))
    maps[0, :2, 3:] = -1
    maps[maps == 4] = 5
    image = torch.stack([(maps == label).flatten(1).sum(1) for label in range(9)], 1)
    targets = BatchTargets.of(image / image.sum(1, keepdim=True), 9, LabelMaps(maps)).for_windows(ROWS, COLS)
    assert targets.classes.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    for shares, pixels in zip(targets.shares.view(2, 3, 2, -1), maps):
        parts = [part.split(3, 1) for part in pixels.split([2, 4, 2])]
        for row, line in zip(shares, parts):
            for window, part in zip(row, line):
                known = part[part >= 0]
                expected = torch.bincount(known, minlength=9)[targets.classes] / max(len(known), 1)
                torch.testing.assert_close(window, expected)
    assert not targets.shares.view(2, 3, 2, -1)[0, 0, 1].any()


def test_windows_of_background_take_no_part_in_statistics(problem):
    """Nor in what is reported, even where all windows are of background."""
    case = problem(0, classes=3, dtype=torch.float32)
    objects = (0, 0, 0, 0, 0.5, 1), (1, 2, 0, 0, 1, 1), (1, 0, 0, 0.75, 0.5, 1)
    targets = BatchTargets.of(distribution(objects, classes=3), 3, boxes(*objects)).for_windows(ROWS, COLS)
    kept = targets.shares.sum(1) > 0
    assert kept.sum() == 9
    one, other = (ClassStatistics(3, 3, 2, None, normalize=True) for _ in range(2))
    for _ in range(2):
        one.update(case.merged, targets)
        other.update(case.merged[kept], BatchTargets(targets.classes, targets.shares[kept]))
        one.finish_epoch(), other.finish_epoch()
    phi, gradient = one.observe(case.tokens, case.merged, targets)
    torch.testing.assert_close(gradient, other.observe(case.tokens[kept], case.merged[kept], BatchTargets(
        targets.classes, targets.shares[kept]))[1])
    assert gradient.any()
    report = BottleneckReport(3, 12, None)
    features = report.observe(case.tokens, targets)
    report.inputs.finish_epoch()
    report.add(features, phi, one.q, targets._replace(shares=torch.zeros_like(targets.shares)), torch.ones(()))
    assert report.summary() == {}
    report.add(features, phi, one.q, targets, torch.ones(()))
    assert all(value == value for value in report.summary().values())
