#!/usr/bin/env bash
# Qwen3-Base on DAPO with verl and vLLM, with the values of the paper (arXiv 2601.19280).
#
#   bash examples/verl/qwen3_dapo.sh [1.7B | 4B | 8B] [METHOD] [verl settings ...]
#
# METHOD is a preset: grpo, prompt, rollout, joint, rollout_replay (the default), joint_replay, paper.
# One node of 8 GPUs of 80 GB unless GPUS says otherwise; several nodes: multi_node.sh beside it.
# Written for such a machine and composed in the tests; it has not been run on one.
set -euo pipefail
size=${1:-1.7B} method=${2:-rollout_replay}
shift $(($# < 2 ? $# : 2))
case $size in
    1.7B) tensor=1 tokens=49152 memory=0.6 ;;
    4B) tensor=1 tokens=32768 memory=0.5 ;;
    8B) tensor=2 tokens=24576 memory=0.5 ;;
    *) echo "qwen3_dapo.sh: the size must be 1.7B, 4B or 8B, got $size" >&2; exit 2 ;;
esac
data=${DATA:-data} out=${OUT:-runs/verl/qwen3-$size-$method}
[ -f "$data/dapo.parquet" ] || gdro data export open-r1/DAPO-Math-17k-Processed --out "$data/dapo.parquet"
[ -f "$data/math500.parquet" ] || gdro data export HuggingFaceH4/MATH-500 --name test --out "$data/math500.parquet"

# The paper: 256 to 512 prompts a step, mini-batches of 128, 500 to 1000 steps. It clips advantages
# to +-5, which verl has no setting for: with n <= 12 a normalised one is at most sqrt(11) = 3.3.
exec python -m verl.trainer.main_ppo \
    'hydra.searchpath=[pkg://gdro.trainers.verl.config]' +gdro=default gdro.preset="$method" \
    trainer.v1.trainer_mode="${MODE:-gdro_sync}" \
    gdro.rollout.n_min=2 gdro.rollout.n_max=12 \
    data.train_files="$data/dapo.parquet" data.val_files="$data/math500.parquet" \
    data.train_batch_size=256 data.max_prompt_length=3200 data.max_response_length=4096 \
    data.filter_overlong_prompts=True data.seed="${SEED:-0}" gdro.seed="${SEED:-0}" \
    actor_rollout_ref.model.path="Qwen/Qwen3-$size-Base" \
    actor_rollout_ref.model.use_remove_padding=True \
    actor_rollout_ref.model.enable_gradient_checkpointing=True \
    actor_rollout_ref.actor.strategy=fsdp2 \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.ppo_mini_batch_size=128 \
    actor_rollout_ref.actor.use_dynamic_bsz=True \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=$tokens \
    actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.actor.clip_ratio_high=0.28 \
    actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.001 \
    actor_rollout_ref.actor.loss_agg_mode=token-mean \
    actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=4 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=$tensor \
    actor_rollout_ref.rollout.gpu_memory_utilization=$memory \
    actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True \
    actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=$tokens \
    actor_rollout_ref.ref.log_prob_use_dynamic_bsz=True \
    actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=$tokens \
    actor_rollout_ref.rollout.val_kwargs.n=8 actor_rollout_ref.rollout.val_kwargs.do_sample=True \
    actor_rollout_ref.rollout.val_kwargs.temperature=0.6 \
    actor_rollout_ref.rollout.val_kwargs.top_p=0.8 actor_rollout_ref.rollout.val_kwargs.top_k=20 \
    algorithm.adv_estimator=grpo critic.enable=False \
    reward.custom_reward_function.path=pkg://gdro.rewards \
    reward.custom_reward_function.name=compute_score \
    trainer.nnodes="${NNODES:-1}" trainer.n_gpus_per_node="${GPUS:-8}" \
    trainer.total_training_steps=1000 trainer.save_freq=50 trainer.test_freq=50 \
    trainer.max_actor_ckpt_to_keep=2 \
    trainer.resume_mode=auto trainer.default_local_dir="$out" \
    trainer.project_name=gdro trainer.experiment_name="qwen3-$size-$method" \
    'trainer.logger=[console,file]' "$@"
