"""Programs of torch.export: they give what the model gives, at any batch and length, without its code."""

import numpy as np
import pytest
import torch

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, presets
from runtime.export import export_backbone
from runtime.exported_program import PROGRAM_FILE, ProgramError, add_program
from runtime.model_folder import TrainedModel
from tests.runtime.fresh_process import run_without_rooms

LAYERS = (
    ConvLayer(5),
    AttentionLayer(presets.get("autobert-zero/10")),
    AttentionLayer(presets.get("linear-attention")),
    AttentionLayer(presets.get("cosine-attention")),
)
BACKBONE = Backbone(LAYERS, 16, 2, 24, name="program")

RUN = """
import numpy as np
import torch
folder = Path(sys.argv[1])
program = torch.export.load(folder / "model.pt2").module()
for number in (0, 1):
    ids, mask = (torch.from_numpy(np.load(folder.parent / f"{name}_{number}.npy")) for name in ("ids", "mask"))
    np.save(folder.parent / f"logits_{number}.npy", program(ids, mask).detach().numpy())
card = (folder / "README.md").read_text().split("```python\\n")[-1].split("```")[0]
names = {}
exec(card, names)
print(tuple(names["logits"].shape))
"""


@pytest.mark.long
def test_a_program_runs_at_any_batch_and_length_where_nothing_of_ours_is_in_reach(tmp_path, fresh_seed):
    folder = export_backbone(BACKBONE, tmp_path / "model", vocab_size=30, seed=1, pt2=True)
    generator = torch.Generator().manual_seed(fresh_seed)
    cases = []
    for number, (batch, tokens) in enumerate([(4, 33), (1, 512)]):
        ids = torch.randint(30, (batch, tokens), generator=generator)
        mask = torch.rand(batch, tokens, generator=generator) < 0.7
        np.save(tmp_path / f"ids_{number}.npy", ids.numpy())
        np.save(tmp_path / f"mask_{number}.npy", mask.numpy())
        cases.append((ids, mask))
    printed = run_without_rooms(RUN, folder, cwd=folder)
    assert printed.strip() == "(1, 8, 30)"  # of the code in the card

    torch.manual_seed(1)
    model = compile_backbone(BACKBONE, 30, backend="torch").eval()
    for number, (ids, mask) in enumerate(cases):
        found = torch.from_numpy(np.load(tmp_path / f"logits_{number}.npy"))
        # The bound of the export contract; the same operations run, some of them fused.
        assert (found - model(ids, mask))[mask].abs().max() <= 1e-5


def test_the_same_model_gives_the_same_program_that_names_no_place_of_this_machine(tmp_path):
    backbone = Backbone(LAYERS[:2], 8, 2, 8, name="twice")
    written = [
        (export_backbone(backbone, tmp_path / name, vocab_size=20, pt2=True) / PROGRAM_FILE).read_bytes()
        for name in ("one", "other")
    ]
    assert written[0] == written[1]
    assert b"site-packages" not in written[0]


def test_a_program_that_differs_from_its_model_is_refused(tmp_path, monkeypatch):
    backbone = Backbone((ConvLayer(3),), 8, 2, 8, name="one")
    model = compile_backbone(backbone, 30, 12, backend="torch")
    trained = TrainedModel(backbone, model.state_dict(), 30, 12, {}, "Untrained.")
    export = torch.export.export

    def wrong(module, *arguments, **options):
        program = export(module, *arguments, **options)
        program.state_dict["head.bias"] = torch.nn.Parameter(program.state_dict["head.bias"] + 1e-3)
        return program

    monkeypatch.setattr(torch.export, "export", wrong)
    with pytest.raises(ProgramError, match=r"differs from the model by 0\.001 at batch 1 and 2 tokens"):
        add_program(trained, tmp_path)
