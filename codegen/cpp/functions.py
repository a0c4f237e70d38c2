"""The pointwise functions in C++: one table beside `codegen.pointwise.FUNCTIONS`."""

from __future__ import annotations

from graphir.ops import COSINE_EPS, RMS_NORM_EPS

CPP_FUNCTIONS: dict[str, str] = {
    "logsigmoid": "logsigmoid({x})",
    "softsign": "softsign({x})",
    "relu": "relu({x})",
    "sigmoid": "sigmoid({x})",
    "tanh": "tanh({x})",
    "exp": "exp({x})",
    "abs": "absolute({x})",
    "inverse_norm": f"inverse_root(larger({{x}}, all({COSINE_EPS}f)))",
    "inverse_root": f"inverse_root({{x}} + {RMS_NORM_EPS}f)",
    "inverse_count": "1.0f / larger({x}, all(1.0f))",
    "softsign_slope": "softsign_slope({x})",
    "step": "step({x})",
    "tanh_slope": "tanh_slope({x})",
    "sign": "sign({x})",
    "inverse_norm_slope": f"inverse_norm_slope({{x}}, {COSINE_EPS}f)",
    "inverse_root_slope": f"inverse_root_slope({{x}} + {RMS_NORM_EPS}f)",
    "inverse_or_zero": "inverse_or_zero({x})",
}
"""Source with ``{x}`` for the operand, by function; they stand in ``templates/cpp/functions.hpp.jinja``."""
