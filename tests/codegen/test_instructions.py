"""Counting the instructions of loops in disassembled kernels."""

from __future__ import annotations

import pytest

from codegen.instructions import hottest_loop, read_amdgcn, read_sass


def sass(*statements):
    """A listing as ``cuobjdump -sass`` prints it; each statement takes 16 bytes, and its words stand on two lines."""
    lines = ["", "\tcode for sm_90", "\t\tFunction : forward_1_kernel", '\t.headerflags\t@"EF_CUDA_SM90"']
    for place, statement in enumerate(statements):
        lines += [
            f"        /*{16 * place:04x}*/  {statement} ;   /* 0x0000007fff017b82 */",
            " " * 60 + "/* 0x000fe20000000800 */",
        ]
    return "\n".join(lines)


WORK = ["FADD R0, R1, R2"] * 8
EXAMPLES = {
    "no loop": (["HMMA.16816.F32.BF16 R4, R8, R4, RZ", *WORK, "EXIT"], 0),
    "one loop": ([*WORK, "HMMA.16816.F32.BF16 R4, R8, R4, R4", *WORK, "@!P0 BRA 0x80", "EXIT"], 10),
    "nothing to do is no instruction": ([*WORK, "NOP", *WORK, "NOP", "@P0 BRA 0x80", "EXIT"], 9),
    "a predicate before the work": ([*WORK, "@!P1 LDS R3, [R4]", "@!PT LDS RZ, [RZ]", "@P0 BRA 0x0"], 11),
    "the loop that multiplies, not the longer one": (
        [*WORK, *WORK, "@P0 BRA 0x0", *WORK, "HGMMA.64x64x16.F32 R4, R8, gdesc[UR4], R4", "@P1 BRA 0x110"],
        10,
    ),
    "the inner loop": (
        [*WORK, *WORK, "HMMA.1688.F32 R4, R8, R4, R4", "@P1 BRA 0x80", *WORK, "@P0 BRA 0x0", "EXIT"],
        10,
    ),
    "a loop in which nothing is multiplied stands in one that does": (
        ["HMMA.1688.F32 R4, R8, R4, R4", *WORK, "@P1 BRA 0x10", "@P0 BRA 0x0", "EXIT"],
        11,
    ),
    "left from its middle by a call": (
        ["HMMA.1688.F32 R4, R8, R4, R4", *WORK, "@P0 CALL.REL.NOINC 0xb0", "BRA 0x0", *WORK, "EXIT"],
        11,
    ),
    "entered in its middle": (
        ["BRA 0x50", *WORK, "HMMA.1688.F32 R4, R8, R4, R4", "@P0 BRA 0x10", *WORK, "EXIT"],
        10,
    ),
    "waits behind the end of the kernel": (
        [
            *["UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8], tmem[UR10], idesc[UR11], UPT", *WORK],
            *["@!P1 BRA 0xc0", "@P0 BRA 0x0", "EXIT"],
            *["SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R4", "@!P1 BRA 0xc0", "BRA 0xa0"],
        ],
        14,
    ),
    "a wait is no loop": (["BAR.SYNC 0x0", "@!P1 BRA 0x0", *WORK, "EXIT"], 0),
    "a condition among the operands": ([*WORK, "BRA.U !UP0, 0x0", *WORK, "EXIT"], 9),
    "a branch over a part of it": (
        ["HMMA.1688.F32 R4, R8, R4, R4", "@P1 BRA 0xa0", *WORK, "@P0 BRA 0x0", "EXIT"],
        11,
    ),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_hottest_loop_of_a_listing(example):
    statements, expected = EXAMPLES[example]
    assert hottest_loop(read_sass(sass(*statements))) == expected


def test_the_hottest_loop_of_assembly_for_amd():
    assembly = """
forward_1_kernel:
.Lfunc_begin0:
\ts_load_dwordx2 s[0:1], s[4:5], 0x0  ; a comment
\ts_cbranch_scc1 .LBB0_3
.LBB0_1:
\t.loc 1 10 2
\tv_mfma_f32_32x32x8_bf16 v[16:31], v[32:33], v[130:131], 0
\ts_nop 15
\tv_add_f32_e32 v1, v2, v3
\tv_add_f32_e32 v1, v2, v3
\tv_add_f32_e32 v1, v2, v3
\tv_add_f32_e32 v1, v2, v3
\tv_add_f32_e32 v1, v2, v3
\ts_cmp_lt_i32 s0, s1
\ts_cbranch_scc1 .LBB0_1
.LBB0_3:
\ts_endpgm
"""
    assert hottest_loop(read_amdgcn(assembly)) == 8
