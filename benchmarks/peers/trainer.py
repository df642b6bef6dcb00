"""transformers' Trainer with the collator that its users write for Qwen2-VL: one question a row, padded batches."""

from __future__ import annotations

from benchmarks.peers import common


class Collator:
    """Rows -> padded inputs; the loss is on the answer and the template's end of turn, tokens of `answer`."""

    def __init__(self, processor, system: str):
        self.processor, self.system = processor, system

    def __call__(self, rows: list[common.Row]) -> dict:
        from PIL import Image

        template = self.processor.apply_chat_template
        prompts = [template(common.messages(self.system, row.prompt), add_generation_prompt=True) for row in rows]
        texts = [
            template([*common.messages(self.system, row.prompt), {"role": "assistant", "content": row.answer}])
            for row in rows
        ]
        answers = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts, strict=True)]
        images = [Image.open(row.image).convert("RGB") for row in rows]
        batch = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        labels = batch["input_ids"].new_full(batch["input_ids"].shape, -100)
        lengths = batch["attention_mask"].sum(-1).tolist()
        for index, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
            start = length - len(self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
            labels[index, start:length] = batch["input_ids"][index, start:length]
        return {**batch, "labels": labels}


def train(options, planned, clock, scratch, model=None) -> tuple[list[float], dict]:
    """model: one that is in memory; None loads it from its folder."""
    from transformers import Trainer, TrainingArguments

    if options.packing:
        raise SystemExit("transformers' Trainer has no packing.")
    settings = common.training_arguments(options, planned, scratch)
    settings |= {"train_sampling_strategy": "sequential", "remove_unused_columns": False}
    trainer = Trainer(
        model=common.load_model(options) if model is None else common.frozen(model, options),
        args=TrainingArguments(**settings),
        train_dataset=planned.rows,
        data_collator=Collator(common.load_processor(options.model), options.system),
        callbacks=[clock.callback()],
    )
    trainer.train()
    return clock.losses, settings


if __name__ == "__main__":
    common.run("trainer", __doc__, (), train)
