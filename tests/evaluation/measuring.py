"""As much of a classifier and of a data loader as the metric needs."""

import torch

from mmltm.evaluation import IBMetric
from tests.engine.small_runs import CLASSES, Images


class Classifier(torch.nn.Module):
    """As much of a classifier as the metric needs."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs, data_samples=None):
        return self.backbone(inputs)

    def val_step(self, data):
        return self(torch.stack(data['inputs']), data['data_samples'])


class Loader(list):
    """Batches of made-up images."""

    def __init__(self, count=12, batch=4, size=64):
        self.dataset = Images(count, size, augment=False)
        items = [self.dataset[index] for index in range(count)]
        items = [dict(item, inputs=(item['inputs'] - 128) / 64) for item in items]
        super().__init__({key: [item[key] for item in items[i:i + batch]] for key in items[0]}
                         for i in range(0, count, batch))


def measure(model, loader, **kwargs):
    """Both passes, as the hook and the loop make them."""
    metric = IBMetric(num_classes=len(CLASSES), **kwargs)
    metric.first_pass(model, loader)
    with torch.no_grad():
        for batch in loader:
            metric.process(batch, model.val_step(batch))
    return metric.evaluate(len(loader.dataset))
