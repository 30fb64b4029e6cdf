"""Two gloo processes, each with a part of the data, against one with all of it.

Run as a script, this file is one of the two.
"""

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mmltm.ib import BatchTargets, ClassStatistics

SAMPLES, CLASSES = 40, 5


def data():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    # Four strong channels and four weak ones, so that the principal directions are beyond doubt.
    merged = torch.randn(SAMPLES, 3, 8, generator=generator) * torch.tensor([2., 2, 2, 2, .1, .1, .1, .1])
    return merged + 0.1 * targets[:, None, None], targets


def run(part: slice) -> dict:
    """Two epochs, a gradient, and a third epoch whose middle is a checkpoint, loaded again into other statistics."""
    statistics = ClassStatistics(CLASSES, num_tokens=3, embed_dims=8, stat_dim=4, beta=0.1)
    merged, targets = (x[part] for x in data())
    fitted = copy.deepcopy(statistics)
    fitted.fit_projection(merged)
    merged = statistics.project(merged)
    for _ in range(2):
        for features, labels in zip(merged.split(8), targets.split(8)):
            statistics.update(features, labels)
        statistics.finish_epoch()
    gradient = copy.deepcopy(statistics).observe(merged, merged, BatchTargets.of(targets, CLASSES))[1]
    statistics.update(merged[:8], targets[:8])
    statistics.synchronize()
    resumed = ClassStatistics(CLASSES, num_tokens=3, embed_dims=8, stat_dim=4, beta=0.1)
    resumed.load_state_dict(statistics.state_dict())
    resumed.update(merged[8:], targets[8:])
    resumed.finish_epoch()
    resumed_state = {f'resumed_{key}': value for key, value in resumed.state_dict().items()}
    fit = fitted.projection @ fitted.projection.T
    return {**statistics.state_dict(), **resumed_state, 'fitted': fit, 'gradient': gradient}


def main(rank: int, port: int, out: Path) -> None:
    dist.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    # Ranks of unequal size: sums must be added before they are divided.
    torch.save(run(slice(12) if rank == 0 else slice(12, None)), out / f'{rank}.pth')
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path, root):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, __file__]
    ranks = [subprocess.Popen([*command, str(rank), str(port), str(tmp_path)], env=environment)
             for rank in range(2)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    zero, one = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    alone = run(slice(None))
    assert zero['label_q'].ne(1 / CLASSES).all() and zero['epoch_counts'].any() and zero['gradient'].all()
    for key, value in zero.items():
        assert value.equal(one[key]), key
    results = ('centroids', 'counts', 'label_q', 'assigned')
    for key in (*results, *(f'resumed_{key}' for key in results), 'fitted', 'gradient'):
        torch.testing.assert_close(
            zero[key], alone[key], rtol=1e-6, atol=1e-6, msg=lambda text, key=key: f'{key}: {text}')


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
