#!/usr/bin/env bash
# All that is worth measuring on a GPU, in a quarter of an hour: what matters most first, and what fails ends nothing else.
#
#   bash tools/gpu_measurements.sh OUT [DATA]     # results and logs in OUT; DATA: Imagenette at 128 pixels, for the last part
#   REHEARSE=1 bash tools/gpu_measurements.sh OUT [DATA]       # the same commands on a CPU, tiny: do they run?
#
# 1. inference at batch 128 of the paper's Table 1: LTM, ToMe, ToFu, LTMP and vanilla, TF32 and float16, eager and as CUDA
#    graphs; compiled, which takes minutes, for LTM alone   2. Mask R-CNN whole   3. training steps with and without the
# information-bottleneck step, by image and static   4. 200 steps with AMP on every backbone, stopped by the first NaN.

set -u
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?folder for results}") data=${2:-}
mkdir -p "$out"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
models=(vit_s swin_t efficientvit_b1 mobilevit_s vit_b swin_b mobilevit_xs)
detectors=(effvit_b1 swin_t vit_b)
precise=(--device cuda --tf32) half=(--device cuda --amp) device=(--device cuda) amp=(--amp)
graphs=(--runtime eager cudagraph) size=(--batch-size 128 --rounds 10) shape=(--shape 800 1344 --batch-size 1 --rounds 10)
step=(--batch-size 128 --rounds 10) epoch=(train_dataloader.batch_size=47)  # 201 steps
if [ -n "${REHEARSE:-}" ]; then
    models=(vit_t efficientvit_b0) detectors=(effvit_b1) precise=(--device cpu) half=(--device cpu --amp) device=(--device cpu)
    amp=() graphs=(--runtime eager) size=(--batch-size 1 --rounds 3 --warmup 0 --shape 64 64)
    shape=(--shape 64 96 --batch-size 1 --rounds 3 --warmup 0) step=(--batch-size 2 --rounds 1 --warmup 0 --shape 64)
    epoch=(train_dataloader.batch_size=2 train_dataloader.dataset.indices=4)
fi

# One command within a number of seconds, its output in a log.
try() {
    local limit=$1 name=$2
    shift 2
    timeout "$limit" python -W ignore "$@" > "$out/$name.log" 2>&1
    local status=$?
    echo "$name: $([ $status = 0 ] && echo done || echo "failed ($status), see $name.log") after $SECONDS s"
}

benchmark=tools/analysis_tools/benchmark.py
for model in "${models[@]}"; do
    config=configs/imagenet/ltm_${model}_300e_in1k.py
    common=("$config" --scope backbone --mergers LTM LTM:mode=static ToMe ToFu LTMP "${graphs[@]}" "${size[@]}" --max-time 10)
    try 60 "fp32_$model" $benchmark "${common[@]}" "${precise[@]}" --out "$out/gpu_latency_fp32.json"
    try 60 "fp16_$model" $benchmark "${common[@]}" "${half[@]}" --out "$out/gpu_latency_fp16.json"
done
for model in "${detectors[@]}"; do
    try 60 "mask_rcnn_$model" $benchmark "configs/mask_rcnn_ltm_${model}_1x.py" --mergers LTM LTM:mode=static "${shape[@]}" \
        "${precise[@]}" --max-time 15 --out "$out/gpu_detectors.json"
done
for model in "${models[@]:0:4}"; do
    for mode in instance static; do
        try 60 "step_${model}_$mode" tools/analysis_tools/benchmark_ib.py "configs/imagenet/ltm_${model}_300e_in1k.py" \
            "${step[@]}" "${device[@]}" --out "$out/gpu_step_${model}_$mode.json" \
            --cfg-options model.backbone.merger.mode=$mode
    done
done
for model in efficientvit_b0 mobilevit_xxs swin_t vit_t_p8; do
    [ -n "$data" ] && try 90 "amp_$model" tools/train.py "configs/imagenette/ltm_${model}_imagenette128.py" "${amp[@]}" \
        --data-root "$data" --work-dir "$out/amp_$model" --cfg-options train_cfg.max_epochs=1 custom_hooks.0.t_warm=0 \
        val_cfg=None val_dataloader=None val_evaluator=None default_hooks.check.type=CheckInvalidLossHook \
        default_hooks.check.interval=1 "${epoch[@]}"
done
for model in "${models[@]:0:4}"; do
    try 120 "compile_$model" $benchmark "configs/imagenet/ltm_${model}_300e_in1k.py" --scope backbone \
        --mergers LTM LTM:mode=static --runtime eager compile "${size[@]}" "${half[@]}" --max-time 10 \
        --out "$out/gpu_compile_fp16.json"
done
