"""Rates of a device are measured once and kept in a file."""

from __future__ import annotations

import torch

from medstudy.costs import device_rate


def test_a_devices_rates_are_measured_once_and_kept(tmp_path, monkeypatch):
    calls, measured = [], device_rate.measured
    monkeypatch.setattr(device_rate, "measured", lambda device: calls.append(1) or measured(device, 64, 2**12, 2))
    first, again = (device_rate.kept(torch.device("cpu"), tmp_path) for _ in range(2))
    assert first == again and len(calls) == 1 and first.flops > 0 and first.bytes > 0
    (file,) = tmp_path.iterdir()
    assert torch.__version__.split("+")[0] in file.name
    file.write_text("{}")  # of another version
    device_rate.kept(torch.device("cpu"), tmp_path)
    assert len(calls) == 2
