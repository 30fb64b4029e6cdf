"""Tables of costs: every number is the file's, every number of the paper stands apart."""

import json

import pytest

from harness.names import family, model_name
from harness.report import block

SETTING = dict(hardware='A CPU', device='cpu', threads=2, dtype='float32', torch='9.9')
RUNS = [dict(command='python tool.py --out x.json', date='2026-01-02T03:04:05+00:00', revision='0123456789abcdef',
             dirty=False)]
PAPER = [dict(table='1', model='ViT-B', pixels=224, ratio=0.7, macs_ratio=0.731),
         dict(table='5', model='ViT-B', pixels=224, ratio=0.5, gmacs=9.63)]


def macs(config, merger, ratio, gmacs):
    return dict(config=config, merger=merger, ratio=ratio, scope='network', shape=[224, 224], parameters_m=1.5,
                gmacs=gmacs)


def timing(config, merger, latency, first=None, batch=1):
    return dict(macs(config, merger, None if merger == 'vanilla' else 0.7, 2.0), batch_size=batch, runtime='eager',
                macs_ratio=0.8, latency_ms=latency, latency_ratio=0.9, latency_ratio_quartiles=[0.85, 0.95],
                first_ratio=first, first_ratio_quartiles=first and [first - 0.01, first + 0.01])


@pytest.fixture
def render(tmp_path):
    """Renders rows as a file of results would be."""

    def render(kind, rows):
        (tmp_path / 'paper.json').write_text(json.dumps(dict(entries=PAPER)))
        content = dict(schema=1, kind=kind, setting=SETTING, runs=RUNS, rows=rows)
        (tmp_path / 'some.json').write_text(json.dumps(content))
        return block('some', tmp_path, tmp_path / 'README.md')

    return render


def test_models_beside_their_twins_and_the_paper(render):
    text = render('macs', [
        macs('ltm_vit_b_300e_in1k', 'vanilla', None, 10.0), macs('ltm_vit_b_300e_in1k', 'LTM', 0.7, 7.0),
        macs('ltm_swin_t_300e_in1k', 'vanilla', None, 4.0), macs('ltm_swin_t_300e_in1k', 'LTM', 0.7, 3.0)])
    assert "| the paper's quotient (its Table 1) |" in text
    assert '| ViT-B | 1.50 | 1.50 | 10.000 | 7.000 | 0.700 | 0.731 |' in text
    assert '| Swin-T | 1.50 | 1.50 | 4.000 | 3.000 | 0.750 |  |' in text
    for said in ('A CPU, 2 threads, float32, torch 9.9', '2026-01-02', '0123456789', 'python tool.py --out x.json'):
        assert said in text


def test_ratios_of_one_model(render):
    rows = [macs('ltm_vit_b_300e_in1k', 'vanilla', None, 10.0)]
    text = render('macs', [*rows, *(macs('ltm_vit_b_300e_in1k', 'LTM', ratio, 10 * ratio) for ratio in (0.6, 0.5))])
    assert '| ViT-B, ratio | 0.6 | 0.5 |' in text and '| LTM, GMACs | 6.00 | 5.00 |' in text
    assert "| the paper's GMACs (its Table 5) |  | 9.63 |" in text


def test_latency_beside_the_twin(render):
    rows = [timing('ssdlite_ltm_effvit_b1_200e', merger, 10.0 * batch, batch=batch)
            for batch in (1, 8) for merger in ('vanilla', 'LTM')]
    text = render('benchmark', rows)
    assert '| SSDLite EfficientViT-B1 | 8 |' in text and '| 80.0 / 80.0 | 0.900 (0.850-0.950) |' in text


def test_mergers_side_by_side(render):
    config = 'ltm_vit_s_300e_in1k'
    reason = dict(config=config, merger='ToFu', ratio=0.7, scope='network', shape=[224, 224], batch_size=1,
                  runtime='eager', reason='no')
    text = render('benchmark', [timing(config, 'vanilla', 10), timing(config, 'LTM', 8, 1.0),
                                timing(config, 'ToMe', 9, 0.88), reason])
    assert '| LTM / this (quartiles) |' in text and '- ToFu on ViT-S: no' in text
    assert '| 0.900 (0.850-0.950) | 0.880 (0.870-0.890) |' in text


def test_runtimes_side_by_side(render):
    rows = [dict(timing('ltm_vit_s_300e_in1k', merger, latency), runtime=runtime)
            for runtime, latency in (('eager', 10), ('openvino', 5)) for merger in ('vanilla', 'LTM')]
    rows.append(dict(rows[-1], merger='ToMe', reason='no'))
    text = render('benchmark', rows)
    assert '| vanilla |  | 10.0 ms | 5.0 ms |' in text and '| LTM | 0.800 | 0.900 (+0.100) | 0.900 (+0.100) |' in text
    assert '- ToMe on ViT-S in openvino: no' in text


def test_not_measured(tmp_path):
    assert block('none', tmp_path, tmp_path / 'README.md').startswith('*Not measured yet')


@pytest.mark.parametrize('config, name, kind', [
    ('ltm_mobilevit_xxs_300e_in1k', 'MobileViT-XXS', 'MobileViT'),
    ('efficientvit_b1_r288_300e_in1k', 'EfficientViT-B1', 'EfficientViT'),
    ('ltm_vit_t_p8_imagenette128', 'ViT-T/8', 'ViT'),
    ('vit_c_imagenette128_distilled', 'ViT-C', 'ViT'),
    ('mask_rcnn_ltm_swin_s_3x', 'Mask R-CNN Swin-S', 'Swin'),
    ('ssdlite_effvit_b1_200e', 'SSDLite EfficientViT-B1', 'EfficientViT'),
    ('effvit_seg_ltm_b1_160k_ade20k', 'EfficientViT-Seg-B1', 'EfficientViT'),
    ('upernet_ltm_swin_t_160k_ade20k', 'UPerNet Swin-T', 'Swin'),
    ('ltm_pvt_s_300e_in1k', 'ltm_pvt_s_300e_in1k', 'pvt'),  # of a family that nobody has named yet
    ('net', 'net', 'net'),
])
def test_names(config, name, kind):
    assert model_name(config) == name and family(config) == kind
