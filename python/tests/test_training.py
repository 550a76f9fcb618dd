"""The arithmetic of a step, and how it meets too little memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch.func import functional_call
from training_lab import TrainingLab, share_models

from lora_worker.blocks import block_names
from lora_worker.checkpointing import set_checkpointing
from lora_worker.models import load_models
from lora_worker.network import Network, create
from lora_worker.network_targets import trainable
from lora_worker.train_request import Train, parse_train
from lora_worker.training import Trainer
from lora_worker.visits import Visits


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@dataclass
class Bench:
    """A trainer outside of the stage."""

    work: Train
    trainer: Trainer
    visits: Visits
    network: Network
    before: dict[str, torch.Tensor] = field(default_factory=dict)


@pytest.fixture
def bench(lab, toy_models):
    made = []

    def make(models=toy_models, **changes):
        work = parse_train(lab.request(**changes))
        for one in made:
            one.network.remove()
        network = create(models, trainable(models.targets()), work.settings.network, seed=0)
        network.attach()
        made.append(
            Bench(
                work,
                Trainer(models, network, work.settings, lambda message: None),
                Visits(work, prediction="epsilon", zero_terminal_snr=False),
                network,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.network.remove()
    set_checkpointing(toy_models, False)


def gradients(bench, step=0):
    """Of a network that is past its first step, so that down has gradients too."""
    generator = torch.Generator().manual_seed(1)
    for branch in bench.network.branches.values():
        branch.up.data.normal_(std=0.02, generator=generator)
    bench.before = {name: parameter.detach().clone() for name, parameter in bench.network.named_parameters()}
    kept = {}
    bench.trainer.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: parameter.grad.clone() for name, parameter in bench.network.named_parameters()})
    )
    reading = bench.trainer.step(step, bench.visits.micro_batches(step), lambda *_: None)
    return kept, reading.numbers()


def test_the_gradient_is_the_mean_over_all_images_however_they_are_cut(bench):
    (whole, (loss, norm, each)), *others = (
        gradients(bench(batch_size=batch, gradient_accumulation_steps=accumulation, max_grad_norm=0))
        for batch, accumulation in ((6, 1), (3, 2), (1, 6))
    )
    assert loss == pytest.approx(sum(each) / 6, rel=1e-6)
    assert norm == pytest.approx(sum(one.square().sum().item() for one in whole.values()) ** 0.5, rel=1e-5)
    for found, (other_loss, other_norm, _) in others:
        assert other_loss == pytest.approx(loss, rel=1e-6)
        assert other_norm == pytest.approx(norm, rel=1e-5)
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("prediction", "zero_terminal_snr"), [("epsilon", False), ("v", True)])
def test_the_gradient_is_that_of_merged_weights(bench, toy_models, prediction, zero_terminal_snr):
    """Computed outright: every weight replaced by W + (α/r) up·down, no branches, no hooks, one backward pass."""
    made = bench(batch_size=2, gradient_accumulation_steps=3, max_grad_norm=0.005)
    made.visits = Visits(made.work, prediction=prediction, zero_terminal_snr=zero_terminal_snr)
    found, (loss, norm, _) = gradients(made)

    made.network.remove()
    merged = {"unet": {}, "te1": {}, "te2": {}}
    factors = {}
    for name, branch in made.network.branches.items():
        weight = toy_models.module_of(branch.target).weight
        up, down = (made.before[f"{name}.{part}.weight"].requires_grad_() for part in ("lora_up", "lora_down"))
        factors |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
        change = branch.alpha / down.shape[0] * (up.flatten(1) @ down.flatten(1))
        merged[branch.target.component][f"{branch.target.module_path}.weight"] = weight + change.reshape(weight.shape)
    losses = []
    for batch in made.visits.micro_batches(0):
        one, two = (
            functional_call(model, merged[name], kwargs={"input_ids": ids, "output_hidden_states": True})
            for name, model, ids in (
                ("te1", toy_models.text.one, batch.ids_one_BNT[:, 0]),
                ("te2", toy_models.text.two, batch.ids_two_BNT[:, 0]),
            )
        )
        conditions = {"text_embeds": two.text_embeds, "time_ids": batch.sizes_B6}
        context = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1)
        output = functional_call(
            toy_models.unet,
            merged["unet"],
            (batch.noisy_B4HW, batch.timesteps_B, context),
            {"added_cond_kwargs": conditions},
        ).sample
        losses += [(row - target).square().mean() for row, target in zip(output, batch.target_B4HW, strict=True)]
    wanted_loss = torch.stack(losses).mean()
    wanted = dict(zip(factors, torch.autograd.grad(wanted_loss, list(factors.values())), strict=True))

    length = sum(gradient.square().sum().item() for gradient in wanted.values()) ** 0.5
    assert loss == pytest.approx(wanted_loss.item(), rel=1e-6)
    assert norm == pytest.approx(length, rel=1e-5)
    assert length > 0.005
    factor = 0.005 / (length + 1e-6)  # as torch clips
    difference = sum((found[name] - factor * wanted[name]).square().sum().item() for name in wanted) ** 0.5
    assert difference < 1e-5 * 0.005


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_bf16_gives_nearly_the_same_gradient(bench, lab, checkpointing):
    exact, (loss, _, _) = gradients(bench(max_grad_norm=0))
    rough = load_models(lab.checkpoint, device="cpu", dtype=torch.bfloat16)
    found, (rough_loss, _, _) = gradients(bench(rough, max_grad_norm=0, gradient_checkpointing=checkpointing))
    assert rough_loss == pytest.approx(loss, rel=0.01)
    for component in ("te1", "te2", "unet"):
        names = [name for name in exact if name.startswith(f"lora_{component}")]
        ours, theirs = (torch.cat([each[name].flatten() for name in names]) for each in (found, exact))
        assert ours.dtype == torch.float32
        assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
        assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.05)


def test_checkpointing_changes_no_gradient(bench):
    plain, told = gradients(bench(batch_size=3))
    again, told_again = gradients(bench(batch_size=3, gradient_checkpointing="on"))
    assert told == told_again
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


def test_checkpointing_computes_layers_a_second_time(bench, toy_models):
    def passes(**changes):
        made = bench(batch_size=3, **changes)
        counts = {"unet": 0, "text": 0}
        hooks = [
            module.register_forward_hook(lambda *_, key=key: counts.__setitem__(key, counts[key] + 1))
            for key, module in (
                ("unet", toy_models.unet.down_blocks[0].resnets[0].conv1),
                ("text", toy_models.text.two.text_model.encoder.layers[0].mlp.fc1),
            )
        ]
        batches = made.visits.micro_batches(0)
        made.trainer.step(0, batches, lambda *_: None)
        for hook in hooks:
            hook.remove()
        return {key: count / len(batches) for key, count in counts.items()}

    assert passes() == {"unet": 1, "text": 1}
    assert passes(gradient_checkpointing="on") == {"unet": 2, "text": 2}
    # The toy is small, so there is no need to.
    assert passes(gradient_checkpointing="auto") == {"unet": 1, "text": 1}


def test_too_little_memory_is_met_by_checkpointing_and_then_by_smaller_batches(bench, monkeypatch):
    wanted, told = gradients(bench(batch_size=3))
    made = bench(batch_size=3, gradient_checkpointing="auto")
    warnings = []
    made.trainer.memory._warn = warnings.append
    losses = Trainer.losses

    def tight(self, batch):
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError("no")
        return losses(self, batch)

    monkeypatch.setattr(Trainer, "losses", tight)
    found, told_now = gradients(made)
    assert told_now[0] == pytest.approx(told[0], rel=1e-6)
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-3, atol=1e-7) for name in wanted)
    assert ["checkpointing" in warning for warning in warnings] == [True, False]
    monkeypatch.setattr(Trainer, "losses", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(torch.OutOfMemoryError):
        gradients(made)


@pytest.mark.parametrize("limit", [None, 0.001])
def test_update_norms_are_of_what_a_step_changed_whatever_changed_it(bench, limit):
    made = bench(scale_weight_norms=limit) if limit else bench()
    for step in range(2):
        before = {name: parameter.detach().clone() for name, parameter in made.network.named_parameters()}
        reading = made.trainer.step(step, made.visits.micro_batches(step), lambda *_: None)
        squares = {"text_encoder": 0.0, "unet": 0.0}
        for name, parameter in made.network.named_parameters():
            component = "unet" if name.startswith("lora_unet") else "text_encoder"
            squares[component] += (parameter.detach() - before[name]).square().sum().item()
        reading.numbers()
        assert reading.update_norms() == {name: pytest.approx(square**0.5) for name, square in squares.items()}
        assert min(squares.values()) > 0


def test_rates_follow_the_schedule_for_both_groups(bench):
    trainer = bench(steps=80).trainer
    trainer.set_rates(40)
    assert trainer.rates() == pytest.approx({"text_encoder": 2.074025e-4 / 3, "unet": 2.074025e-4}, rel=1e-6)
    constant = bench(lr_scheduler={"kind": "constant"}).trainer
    constant.set_rates(2)
    assert constant.rates() == {"text_encoder": 1e-4, "unet": 3e-4}
    own = bench(lr_scheduler={"kind": "adafactor", "warmup_init": True}, unet_lr=1, text_encoder_lr=0.5).trainer
    own.set_rates(2)
    assert own.rates() == {"text_encoder": 0.5 * (1e-6 * 3), "unet": 1e-6 * 3}
    linear = {"class": "torch.optim.lr_scheduler.LinearLR", "args": {"start_factor": 0.5, "total_iters": 9}}
    ours = bench(lr_scheduler={"kind": "python", **linear}, block_lr={"OUT01": 2}, loraplus_lr_ratio=4).trainer
    ours.set_rates(0)
    # Of what has no factors of its own, where there is something.
    assert ours.rates() == {"text_encoder": 0.5e-4, "unet": 1.5e-4}


def test_blocks_and_up_matrices_have_rates_of_their_own(bench):
    made = bench(
        loraplus_lr_ratio=4, block_lr={"OUT01": 0.5, "IN01": 0, "TE2.0": 2, "TE2": 0.1}, batch_size=3, steps=80
    )
    made.trainer.set_rates(40)
    factor = 2.074025e-4 / 3e-4
    found = {parameter: group["lr"] for group in made.trainer.optimizer.param_groups for parameter in group["params"]}
    seen = set()
    for name, branch in made.network.branches.items():
        component = 3e-4 if branch.target.component == "unet" else 1e-4
        (block, *_), share = block_names(name), 1.0
        if name.startswith("lora_te2"):
            share = 2 if block == "TE2.0" else 0.1
        share = {"OUT01": 0.5, "IN01": 0}.get(block, share)
        seen.add(share)
        if share == 0:
            assert branch.up not in found
            assert branch.down not in found
        else:
            assert found[branch.down] == pytest.approx(component * share * factor, rel=1e-6)
            assert found[branch.up] == pytest.approx(4 * component * share * factor, rel=1e-6)
    assert seen == {1, 0.5, 0, 2, 0.1}
    assert made.trainer.rates() == pytest.approx({"text_encoder": 1e-4 * factor, "unet": 3e-4 * factor}, rel=1e-6)

    before = {name: parameter.detach().clone() for name, parameter in made.network.named_parameters()}
    made.trainer.step(0, made.visits.micro_batches(0), lambda *_: None)
    for name, parameter in made.network.named_parameters():
        if "lora_up" in name:
            assert torch.equal(parameter, before[name]) == (block_names(name)[0] == "IN01"), name
        assert parameter.grad is None
