"""Collectives are counted as often as they run, and by the bytes of their results."""

import dataclasses

import pytest

from benchmarks.collectives import count_collectives

# What the compiler writes, shortened: a gradient in a loop of three, inside a loop of five;
# a gathered map; two sums in one.
PROGRAM = """\
HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum.1 = f32[] add(%x, %y)
}

%inner_body (state: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %state = (s32[], f32[4,2]{1,0}) parameter(0)
  %all-reduce.7 = f32[4,2]{1,0} all-reduce(%dot.1), channel_id=1, to_apply=%add, metadata={op_name="a/while/body"}
  ROOT %tuple.1 = (s32[], f32[4,2]{1,0}) tuple(%next, %all-reduce.7)
}

%inner_condition (state: (s32[], f32[4,2])) -> pred[] {
  ROOT %less.1 = pred[] compare(%n, %three), direction=LT
}

%outer_body (state: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  ROOT %while.2 = (s32[], f32[4,2]{1,0}) while(%tuple), condition=%inner_condition, body=%inner_body, backend_config={"known_trip_count":{"n":"3"}}
}

%outer_condition (state: (s32[], f32[4,2])) -> pred[] {
  ROOT %less.2 = pred[] compare(%m, %five), direction=LT
}

ENTRY %main_spmd (param: f32[8,3]) -> f32[] {
  %all-gather.1 = bf16[16,3]{1,0} all-gather(%half), channel_id=2, dimensions={0}
  %while.1 = (s32[], /*index=1*/f32[4,2]{1,0}) while(%tuple.9), condition=%outer_condition, body=%outer_body, backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}
  %all-reduce.1 = (f32[], /*index=1*/pred[10]{0}) all-reduce(%loss, %flags), channel_id=3, to_apply=%add
  ROOT %fusion.1 = f32[] fusion(%all-reduce.1), kind=kLoop, calls=%add
}
"""  # noqa: E501


def counted(program):
    return {
        kind: dataclasses.astuple(traffic) for kind, traffic in count_collectives(program).items()
    }


def test_collectives_in_loops_count_per_iteration():
    assert counted(PROGRAM) == {
        "all-gather": (1, 16 * 3 * 2),
        "all-reduce": (15 + 1, 15 * 4 * 2 * 4 + 4 + 10),
    }


def test_a_loop_of_unknown_length_matters_only_with_collectives_in_it():
    unknown = PROGRAM.replace('"known_trip_count":{"n":"3"}', "")
    with pytest.raises(ValueError, match="all-reduce in inner_body is in a loop of unknown length"):
        count_collectives(unknown)
    without = unknown.replace("f32[4,2]{1,0} all-reduce(", "f32[4,2]{1,0} negate(")
    assert counted(without)["all-reduce"] == (1, 14)


def test_asynchronous_collectives_are_rejected():
    with pytest.raises(ValueError, match="all-gather-start in main_spmd is asynchronous"):
        count_collectives(PROGRAM.replace(" all-gather(", " all-gather-start("))
