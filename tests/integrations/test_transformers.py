"""`GradientNoise` in the transformers Trainer: once per update, after the clip, by name, and resumable."""

import pytest
import torch
from support.steady import SCHEDULE, SEED, Curved, Steady, assert_differ_by_noise, assert_same, batch, values
from torch import nn

from gradnoise import attach

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'gradnoise[transformers]'"
)
pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'gradnoise[transformers]'")

from gradnoise.integrations.transformers import GradientNoise  # noqa: E402


class Model(nn.Module):
    """What the Trainer needs around a net whose `forward` gives the loss. An example is a number: what to draw."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, k):
        self.seen += k.tolist()
        return {"loss": self.net(torch.cat([batch(int(i)) for i in k]))}


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, k):
        return {"k": k}


@pytest.fixture
def trainer_of(tmp_path):
    def make(model, *callbacks, data=None, **settings):
        defaults = {
            "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_steps": 3,
            "per_device_train_batch_size": 1, "remove_unused_columns": False, "dataloader_pin_memory": False,
            "use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1,
        }  # fmt: skip
        args = transformers.TrainingArguments(tmp_path, **{**defaults, **settings})
        return transformers.Trainer(model, args, train_dataset=data or Numbers(), callbacks=list(callbacks))

    return make


# --- what is added ------------------------------------------------------------------------------------

SETTINGS = {
    "plain": {"max_grad_norm": 0.0},
    "clip": {"max_grad_norm": 1e-3},
    "accumulation": {"gradient_accumulation_steps": 3, "max_grad_norm": 1e-3},
    "accumulation over the end of an epoch": {"gradient_accumulation_steps": 5},
    "bf16": {"bf16": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_update_gets_its_noise_once_and_after_the_clip(settings, trainer_of):
    noisy, plain = Model(Steady()), Model(Steady())
    callback = GradientNoise(SCHEDULE, seed=SEED)
    trainer_of(noisy, callback, **settings).train()
    trainer_of(plain, **settings).train()
    assert callback.noise.step == 3
    assert_differ_by_noise(noisy, plain, updates=3)


def test_a_language_model(trainer_of):
    """Train one with tied weights, and groups with and without weight decay."""

    def model():
        torch.manual_seed(0)
        no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, **no_dropout)
        return transformers.GPT2LMHeadModel(config)

    tokens = torch.arange(8) % 11
    data = [{"input_ids": tokens, "labels": tokens}] * 4
    noisy, plain = model(), model()
    trainer_of(noisy, GradientNoise(SCHEDULE, seed=SEED), data=data, max_steps=1).train()
    trainer_of(plain, data=data, max_steps=1).train()
    assert_differ_by_noise(noisy, plain, updates=1)  # one only: its gradients depend on its weights


def test_options_of_attach(trainer_of):
    noisy, plain = Model(Steady()), Model(Steady())
    trainer_of(noisy, GradientNoise(SCHEDULE, seed=SEED, where=lambda name: name.startswith("net.second"))).train()
    trainer_of(plain).train()
    assert_differ_by_noise(noisy, plain, updates=0, only="net.first")
    assert_differ_by_noise(noisy, plain, updates=3, only="net.second")


# --- checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
def test_resumed_at_any_step_equals_uninterrupted(optim, trainer_of, tmp_path):
    settings = {"optim": optim, "learning_rate": 0.1, "max_steps": 5, "gradient_accumulation_steps": 2}
    whole = Model(Curved(dropout=0.5))
    trainer_of(whole, GradientNoise(SCHEDULE, seed=SEED), save_strategy="steps", save_steps=1, **settings).train()
    for step in range(1, 5):
        resumed, callback = Model(Curved(dropout=0.5)), GradientNoise(SCHEDULE, seed=SEED)
        trainer_of(resumed, callback, **settings).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert callback.noise.step == 5
        assert_same(values(resumed), values(whole))


def test_resuming_a_checkpoint_without_noise_says_that_noise_starts(trainer_of, tmp_path):
    trainer_of(Model(Steady()), save_strategy="steps", save_steps=1).train()
    callback = GradientNoise(SCHEDULE, seed=SEED)
    with pytest.warns(UserWarning, match="resumes at step 2 .* noise starts at t = 0"):
        trainer_of(Model(Steady()), callback).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert callback.noise.step == 1


def test_a_second_training_goes_on_counting(trainer_of):
    noisy, plain = Model(Steady()), Model(Steady())
    for model, callbacks in ((noisy, [GradientNoise(SCHEDULE, seed=SEED)]), (plain, [])):
        trainer = trainer_of(model, *callbacks)
        trainer.train()
        trainer.train()
    assert_differ_by_noise(noisy, plain, updates=6)


# --- what is left alone -------------------------------------------------------------------------------


def test_shuffling_and_the_global_random_state_are_as_without_noise(trainer_of):
    seen, states = [], []
    for callbacks in ([GradientNoise(SCHEDULE, seed=SEED)], []):
        model = Model(Curved(dropout=0.5))
        trainer_of(model, *callbacks, max_steps=20).train()
        seen.append(model.seen)
        states.append(torch.get_rng_state())
    assert seen[0] == seen[1] != list(range(12)) + list(range(8))
    assert torch.equal(*states)


def test_the_optimizer_is_clean_after_training(trainer_of):
    model = Model(Steady())
    trainer = trainer_of(model, GradientNoise(SCHEDULE, seed=SEED))
    trainer.train()
    before = values(model)
    trainer.optimizer.zero_grad()
    trainer.optimizer.step()
    assert_same(values(model), before)
    attach(trainer.optimizer, SCHEDULE, seed=SEED)


def test_training_goes_on_after_one_that_failed(trainer_of):
    class Stumble(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 1:
                raise RuntimeError("out of memory")

    noisy, plain, noise = Model(Steady()), Model(Steady()), GradientNoise(SCHEDULE, seed=SEED)
    for model, callbacks in ((noisy, [noise]), (plain, [])):
        trainer = trainer_of(model, *callbacks, Stumble())
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer.train()
        trainer.remove_callback(Stumble)
        trainer.train()
    assert noise.noise.step == 1 + 3
    assert_differ_by_noise(noisy, plain, updates=4)


# --- the log ------------------------------------------------------------------------------------------


def test_sigma_stands_beside_the_loss_in_the_log(trainer_of):
    trainer = trainer_of(Model(Steady()), GradientNoise(SCHEDULE, seed=SEED))
    trainer.train()
    logged = [row["noise_sigma"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx([SCHEDULE(t) ** 0.5 for t in (1, 2, 3)])  # each of the update to come


# --- what goes without a word ---------------------------------------------------------------------------


class Bypass(transformers.TrainerCallback):
    """Replaces the optimizer's step once noise is attached, as fused implementations do."""

    def on_train_begin(self, args, state, control, *, optimizer, **_):
        optimizer.step = lambda: None


@pytest.mark.filterwarnings("ignore:Seems like `optimizer.step")
def test_a_training_whose_updates_had_no_noise_is_reported(trainer_of):
    callback = GradientNoise(SCHEDULE, seed=SEED)
    with pytest.warns(UserWarning, match="training made 3 updates and none of them had noise"):
        trainer_of(Model(Steady()), callback, Bypass()).train()
    assert callback.noise.step == 0


def test_an_optimizer_that_updates_within_the_backward_pass_is_reported(trainer_of):
    pytest.importorskip("lomo_optim", reason="LOMO is not installed: pip install 'gradnoise[conformance]'")
    callback = GradientNoise(SCHEDULE, seed=SEED)
    with pytest.warns(UserWarning, match="none of them had noise: they did not come through the `step` of Lomo"):
        trainer_of(Model(Steady()), callback, optim="lomo", learning_rate=1e-4).train()
    assert callback.noise.step == 0
