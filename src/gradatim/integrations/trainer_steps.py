"""A training step of the Hugging Face Trainer, and a survey, with one loss per sample."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.trainer_utils import unwrap_peft_model

from gradatim import distributed
from gradatim.curriculum import Curriculum
from gradatim.integrations.trainer_losses import (
    IGNORED,
    SampleLosses,
    mean_of,
    sample_losses,
    shifts,
)
from gradatim.loader import INDEX_KEY
from gradatim.method import overrides
from gradatim.validation import refusal

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

__all__ = ["CurriculumSteps"]


class CurriculumSteps(_Trainer):
    """What `CurriculumTrainerMixin` does within a step; it is not used alone."""

    # Our loss is scaled for gradient accumulation already.
    loss_is_scaled_for_ga = True

    curriculum: Curriculum

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._group_rows = 0  # samples of the optimizer step at hand, over all processes
        self._group_tokens: torch.Tensor | None = None
        # Of batches with texts that have no target: their index, and the positions of the others.
        self._partly_labelled: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._unchecked = True  # whether the model's own loss is still to be compared
        self._signature: Any = (None, (None, {}))  # of the model's forward, looked up once
        super().__init__(*args, **kwargs)

    # ------------------------------------------------------------------ surveys

    def _surveyed(self, batch: Any) -> dict[str, Any]:
        inputs = dict(self._prepare_inputs(batch))
        with self.compute_loss_context_manager():
            # Not the wrapped model: ranks may have shares of different lengths.
            found, outputs = self._forward(self.model, inputs, hidden=self._accepts("hidden"))
            signals = self._signals(found, outputs, inputs)
        if found.tokens is not None:
            signals["rows"] = found.tokens.nonzero().squeeze(1).cpu()
        return {"losses": found.losses, **signals}

    # ------------------------------------------------------------------ a step

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of an optimizer step; rows that only pad ranks lose their labels first."""
        epochs = self.curriculum.epochs
        batches, items = super().get_batch_samples(
            map(_without_padding, epoch_iterator), num_batches, device
        )
        left = epochs.plan().index.numel() - epochs.consumed() if batches else 0
        self._group_rows = min(left, len(batches) * epochs.batch_size * epochs.run.world)
        self._group_tokens, self._partly_labelled = None, []
        labels: list[Any] = [batch.get("labels") for batch in batches if isinstance(batch, Mapping)]
        if labels and all(isinstance(each, torch.Tensor) and _by_token(each) for each in labels):
            shift = 1 if shifts(self._taken_by_model()[0]) else 0
            counts = [each[..., shift:].ne(IGNORED).flatten(1).sum(1) for each in labels]
            for batch, count in zip(batches, counts, strict=True):
                if INDEX_KEY in batch and not bool(count.all()):
                    rows = count.nonzero().squeeze(1).cpu()
                    self._partly_labelled.append((batch[INDEX_KEY], rows))
            total = torch.cat(counts).sum().to(device)
            self._group_tokens = distributed.global_sum(total)
        return batches, items

    def _prepare_inputs(self, inputs: Any) -> Any:
        prepared = super()._prepare_inputs(inputs)
        if isinstance(inputs, Mapping) and INDEX_KEY in inputs:
            # On the device its values would have to be waited for.
            cast("Any", prepared)[INDEX_KEY] = inputs[INDEX_KEY]
        return prepared

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The curriculum's loss of a training batch; evaluation is the Trainer's own."""
        if INDEX_KEY not in inputs:
            return self._evaluated(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        index = inputs.pop(INDEX_KEY)
        epochs = self.curriculum.epochs
        rows = min(
            epochs.plan().index.numel() - epochs.consumed(), epochs.batch_size * epochs.run.world
        )
        found, outputs = self._forward(
            model, inputs, hidden=self._trains_on_hidden(), items=num_items_in_batch, index=index
        )
        signals = self._signals(found, outputs, inputs)
        group = max(rows, self._group_rows)
        if found.tokens is None:
            loss = self.curriculum(found.losses, index=index, **signals)
        else:
            # A text without a target has nothing to tell, and a loss of 0 would make it easiest.
            seen: dict[str, Any] | None = None
            for batch_index, kept in self._partly_labelled:
                if batch_index is index:
                    seen = {"losses": found.losses, "rows": kept}
            weights, scale = self.curriculum.weigh(
                found.losses, index=index, observed=seen, **signals
            )
            total = self._group_tokens
            if total is None:
                total = distributed.global_sum(found.tokens.sum())
            # A text counts by its tokens, relative to the mean text of the optimizer step.
            lengths = found.tokens * (group / total.to(found.tokens.device).clamp(min=1))
            losses = found.losses
            if epochs.nonfinite == "skip":
                losses = torch.where(losses.isfinite(), losses, 0)
            loss = (losses * weights * lengths).sum() * scale
        if group != rows:
            loss = loss / (group / rows)
        return (loss, outputs) if return_outputs else loss

    def _evaluated(self, model: Any, inputs: Any, return_outputs: bool, items: Any) -> Any:
        if self.compute_loss_func is None:
            return super().compute_loss(model, inputs, return_outputs, items)
        # The stock Trainer expects a sum over all processes of it, and we one loss per sample.
        inputs = dict(inputs)
        found, outputs = self._forward(model, inputs, items=items)
        loss = found.losses.mean()
        return (loss, outputs) if return_outputs else loss

    def _forward(
        self,
        model: Any,
        inputs: dict[str, Any],
        *,
        hidden: bool = False,
        items: Any = None,
        index: torch.Tensor | None = None,
    ) -> tuple[SampleLosses, Any]:
        """Per-sample losses and the model's outputs."""
        plain, parameters = self._taken_by_model()
        given = dict(inputs)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if hidden and (open_ended or "output_hidden_states" in parameters):
            given["output_hidden_states"] = True
        if self.compute_loss_func is not None:
            labels = given.pop("labels", None)
            outputs = model(**given)
            losses = self.compute_loss_func(outputs, labels, num_items_in_batch=items)
            size = len(index) if index is not None else None
            if not isinstance(losses, torch.Tensor) or losses.ndim != 1:
                shape = "(B,)" if size is None else f"({size},)"
                raise refusal(
                    "compute_loss_func",
                    f"a function that returns one loss per sample, of shape {shape}",
                    losses,
                    "Did you forget reduction='none'?",
                )
            logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
            return SampleLosses(losses, logits, labels), outputs
        labels = self._labels(given)
        config = getattr(plain, "config", None)
        needs = "labels" in parameters and parameters["labels"].default is inspect.Parameter.empty
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in given:
            needs = True
        smoothing = self.args.label_smoothing_factor
        compared = index is not None and self._unchecked and not smoothing
        if not needs and not compared:  # the model's own loss would cost time
            for name in labels if isinstance(labels, dict) else ("labels",):
                given.pop(name)
        outputs = model(**given)
        found = sample_losses(
            plain, outputs, labels, smoothing=smoothing, after_loss=needs or compared
        )
        if index is not None and compared:
            self._compare(found, outputs, index)
        return found if index is None else self._own_criterion(found, index, smoothing), outputs

    def _taken_by_model(self) -> tuple[Any, Mapping[str, inspect.Parameter]]:
        if self._signature[0] is not self.model:
            plain = unwrap_peft_model(self.accelerator.unwrap_model(self.model))
            self._signature = (self.model, (plain, inspect.signature(plain.forward).parameters))
        return self._signature[1]

    def _labels(self, inputs: Mapping[str, Any]) -> Any:
        if isinstance(inputs.get("labels"), torch.Tensor):
            return inputs["labels"]
        spans = {name: inputs.get(name) for name in ("start_positions", "end_positions")}
        if all(isinstance(each, torch.Tensor) for each in spans.values()):
            return spans
        cause = 'Name the column "labels", or pass compute_loss_func.'
        raise refusal("labels", "a tensor in every batch", f"only {sorted(inputs)}", cause)

    def _own_criterion(
        self, found: SampleLosses, index: torch.Tensor, smoothing: float
    ) -> SampleLosses:
        """The losses of a method or a curriculum that brings its own."""
        curriculum = self.curriculum
        given = curriculum._steps._criterion is not None
        if given or any(
            overrides(method, "criterion") and method.replaces_criterion(curriculum.run)
            for method in curriculum.methods
        ):
            if smoothing:
                rule = "0 where the curriculum brings the loss"
                raise refusal("label_smoothing_factor", rule, smoothing)
            losses = curriculum.criterion(found.logits, found.targets, index=index)
            return replace(found, losses=losses)
        return found

    def _compare(self, found: SampleLosses, outputs: Any, index: torch.Tensor) -> None:
        """Refuse, on the first batch, a model that trains on more than its labels' loss."""
        if found.tokens is None and bool((index < 0).any()):
            return  # a row that only pads is in one mean and not in the other
        self._unchecked = False
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
        if not isinstance(loss, torch.Tensor):
            return
        own, ours = float(loss.detach().float().mean()), float(mean_of(found).detach())
        # The model's own loss may have been rounded in its arithmetic at every step.
        coarse = max(torch.finfo(each.dtype).eps for each in (found.logits, loss))
        share = max(1e-3, 4 * coarse)
        alike = math.isclose(own, ours, rel_tol=share, abs_tol=share / 100)
        if not alike and math.isfinite(own - ours):
            raise refusal(
                "losses per sample",
                f"what the model trains on, {own:.6g} in the mean",
                f"{ours:.6g} from its logits and labels",
                "Pass compute_loss_func=f with f(outputs, labels, num_items_in_batch) -> (B,).",
            )

    def _accepts(self, name: str) -> bool:
        return any(name in (*m.wants, *m.accepts) for m in self.curriculum.methods)

    def _trains_on_hidden(self) -> bool:
        return any(
            "hidden" in method.wants
            or ("hidden" in method.accepts and getattr(method, "measure", "") == "training")
            for method in self.curriculum.methods
        )

    def _signals(self, found: SampleLosses, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """What methods ask for, by name: of the losses, the outputs or the inputs."""
        known: dict[str, Any] = {"logits": found.logits, "targets": found.targets}
        named = outputs if isinstance(outputs, Mapping) else {}
        for name in ("hidden_states", "decoder_hidden_states"):
            if named.get(name) is not None:
                known.setdefault("hidden", named[name][-1])
        known["mask"] = inputs.get("attention_mask")
        if known["mask"] is None and "hidden" in known:  # models take all tokens then
            known["mask"] = torch.ones(known["hidden"].shape[:2], device=known["hidden"].device)
        wanted = {n for m in self.curriculum.methods for n in (*m.wants, *m.accepts)}
        signals = {}
        for name in wanted - {"learning_rate"}:
            value = known.get(name)
            if value is None:
                value = named.get(name, inputs.get(name))
            if value is not None:
                signals[name] = value
        return signals


def _by_token(labels: torch.Tensor) -> bool:
    return labels.ndim > 1 and not labels.is_floating_point()


def _without_padding(batch: Any) -> Any:
    """The batch, where labels are by token without those of rows that only pad ranks."""
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(labels, torch.Tensor) and _by_token(labels):
        padding = batch[INDEX_KEY] < 0
        if bool(padding.any()):
            labels = labels.clone()
            labels[padding] = IGNORED
            cast("Any", batch)["labels"] = labels
    return batch
