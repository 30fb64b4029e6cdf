#!/usr/bin/env bash
# The main jobs at small size, from nothing: makes .venv and synthetic data sets, trains an LTM-EfficientViT classifier of
# shapes, starts Mask R-CNN from it, tests that, leaves pictures of predictions beside ground truth, and exports it. Minutes
# on two CPU cores. Running it again reuses whatever is there.
#
#   bash tools/quickstart.sh

set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

data=data/mini_coco
config=configs/mini/mask_rcnn_ltm_effvit_mini_pretrained.py
work=work_dirs/quickstart
started=$SECONDS
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

make_data() {
    "$python" tools/dataset_converters/make_mini_coco.py "$@"
}

# train CONFIG DATA WORK_DIR [OPTION ...]: of the log, the epochs' last lines; errors go past it.
train() {
    "$python" -W ignore tools/train.py "$1" --data-root "$2" --work-dir "$3" --resume "${@:4}" | sed -unE \
        's/.*Epoch\(train\) +\[ *([0-9]+)\]\[ *([0-9]+)\/\2\].* eta: ([0-9:]+).* loss: ([0-9.]+).*/  epoch \1: loss \4, \3 to go/p;
         s/.*accuracy\/top1: ([0-9.]+).*/  Accuracy on shapes that were not trained on: \1%/p'
}

make_data generate "$data"
make_data generate data/mini_scenes --num-train 2400 --size 128x128 --seed 1 > /dev/null
make_data crops data/mini_scenes data/mini_crops --size 48
echo "Training a classifier of shapes; logs are in $work"
train configs/mini/ltm_efficientvit_b0_mini.py data/mini_crops "$work/classifier"
echo "Training a detector that starts from it"
train "$config" "$data" "$work/detector" --cfg-options train_cfg.val_interval=100 \
    model.backbone.pretrained="$(cat "$work/classifier/last_checkpoint")"
checkpoint=$(cat "$work/detector/last_checkpoint")
echo "Testing"
"$python" -W ignore tools/test.py "$config" "$checkpoint" --data-root "$data" --work-dir "$work" \
    --out "$work/predictions.pkl" --show-dir "$work/pictures" > "$work/test.log"
ap50() {
    sed -nE "s/.*coco\/$1_mAP_50: ([0-9.]+).*/\1/p" "$work/test.log"
}
pictures=("$work"/pictures/*)
echo "Exporting"
"$python" -W ignore tools/deployment/export.py "$config" "$checkpoint" "$work/model.onnx" --verify "$data/val2017" \
    > "$work/export.log"

echo
echo "Box AP50 $(ap50 bbox), mask AP50 $(ap50 segm) on 60 images that were not trained on"
echo "Checkpoint:  $checkpoint"
echo "Picture:     ${pictures[0]} (left: ground truth, right: prediction)"
echo "ONNX:        $work/model.onnx; $(tail -n 1 "$work/export.log")"
echo "Data, training, test and export took $(( (SECONDS - started) / 60 )) min $(( (SECONDS - started) % 60 )) s."
