#!/usr/bin/env bash
# The main job at small size, from nothing: makes .venv and a synthetic COCO-format data set, trains Mask R-CNN on an
# LTM-EfficientViT backbone, tests it, and leaves pictures of predictions beside ground truth. Minutes on two CPU
# cores. Running it again reuses whatever is there.
#
#   bash tools/quickstart.sh

set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

data=data/mini_coco
config=configs/mini/mask_rcnn_ltm_effvit_mini.py
work=work_dirs/quickstart
started=$SECONDS
# So small a model gains little from a second thread, and on a machine that is busy otherwise it loses much.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

"$python" tools/dataset_converters/make_mini_coco.py generate "$data"
"$python" tools/train.py "$config" --data-root "$data" --work-dir "$work" --resume
checkpoint=$(cat "$work/last_checkpoint")
"$python" tools/test.py "$config" "$checkpoint" --data-root "$data" --work-dir "$work" \
    --out "$work/predictions.pkl" --show-dir "$work/pictures"

echo
echo "Checkpoint:  $checkpoint"
echo "Predictions: $work/predictions.pkl"
echo "Pictures:    $work/pictures (left: ground truth, right: prediction)"
echo "Data, training and test took $(( (SECONDS - started) / 60 )) min $(( (SECONDS - started) % 60 )) s."
