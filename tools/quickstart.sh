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

# Of a log, the epochs' last lines; errors go past it.
progress() {
    sed -unE 's/.*Epoch\(train\) +\[ *([0-9]+)\]\[ *([0-9]+)\/\2\].* eta: ([0-9:]+).* loss: ([0-9.]+).*/  epoch \1: loss \4, \3 to go/p'
}

"$python" tools/dataset_converters/make_mini_coco.py generate "$data"
echo "Training; the whole log is in $work"
"$python" -W ignore tools/train.py "$config" --data-root "$data" --work-dir "$work" --resume | progress
checkpoint=$(cat "$work/last_checkpoint")
echo "Testing"
"$python" -W ignore tools/test.py "$config" "$checkpoint" --data-root "$data" --work-dir "$work" \
    --out "$work/predictions.pkl" --show-dir "$work/pictures" > "$work/test.log"
ap50() {
    sed -nE "s/.*coco\/$1_mAP_50: ([0-9.]+).*/\1/p" "$work/test.log"
}
pictures=("$work"/pictures/*)

echo
echo "Box AP50 $(ap50 bbox), mask AP50 $(ap50 segm) on 60 images that were not trained on"
echo "Checkpoint:  $checkpoint"
echo "Picture:     ${pictures[0]} (left: ground truth, right: prediction)"
echo "Data, training and test took $(( (SECONDS - started) / 60 )) min $(( (SECONDS - started) % 60 )) s."
