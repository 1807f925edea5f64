"""Gradient noise in the transformers Trainer: one callback. pip install 'gradnoise[transformers]'"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from gradnoise import Annealed
from gradnoise.integrations.transformers import GradientNoise

TOKENS, LENGTH = 16, 12


def counting(n=256):
    """Sequences that count up from a random token, modulo the number of tokens."""
    sequences = (torch.randint(TOKENS, (n, 1)) + torch.arange(LENGTH)) % TOKENS
    return [{"input_ids": s, "labels": s} for s in sequences]


def main():
    torch.manual_seed(0)
    size = {"n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=TOKENS, bos_token_id=None, eos_token_id=None, **size))
    schedule = Annealed(eta=1e-4)
    callback = GradientNoise(schedule, seed=0)  # logs "noise_sigma" beside the loss
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            max_steps=60,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,  # noise comes once per update, not per batch
            learning_rate=3e-3,
            max_grad_norm=1.0,  # noise comes after the clip
            logging_steps=20,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, settings, train_dataset=counting(), callbacks=[callback])
        trainer.train()

    noise, losses = callback.noise, [row["loss"] for row in trainer.state.log_history if "loss" in row]
    last = noise.step - 1
    added = noise.replay("transformer.wte.weight", last)
    print(f"updates with noise: {noise.step}")
    print(f"sigma: {schedule(0) ** 0.5:.4f} in the first update, {schedule(last) ** 0.5:.4f} in the last")
    print(f"noise on transformer.wte.weight in the last update: norm {added.norm():.4f}, {added.numel()} elements")
    print(f"loss: {losses[0]:.3f} over the first 20 updates, {losses[-1]:.3f} over the last 20")


if __name__ == "__main__":
    main()
