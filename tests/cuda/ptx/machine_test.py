#!/usr/bin/python3
"""The machine on small kernels of our own: what threads do together, and that each thing which no
kernel may do is an error that names the line."""
import unittest

import numpy as np

import machine
import memory
import ptx_text
import setting
from ptx_text import PtxError

HEADER = """.version 9.0
.target sm_80
.address_size 64
.visible .entry test(
  .param .u64 into,
  .param .align 4 .b8 bytes[8]
)
.maxntid 256, 1, 1
{
  .reg .pred %p<9>;
  .reg .b16 %h<9>;
  .reg .f32 %f<9>;
  .reg .b32 %r<99>;
  .reg .b64 %d<9>;
  .shared .align 4 .b8 words[256];
  ld.param.u64 %d0, [into];
  cvta.to.global.u64 %d1, %d0;
  mov.u32 %r0, %tid.x;
  mul.wide.u32 %d2, %r0, 4;
  add.s64 %d3, %d1, %d2;
  mov.u32 %r50, words;
  shl.b32 %r51, %r0, 2;
  add.s32 %r52, %r50, %r51;
  mov.u32 %r60, 31;
  mov.u32 %r61, -1;
"""
FIRST_LINE = HEADER.count("\n") + 1  # of the body


def run(body, threads=64, blocks=1, into=None, most_steps=2000):
    """Runs the body; returns the 4 bytes per thread that start at %d1; %d3 is this thread's word of
    them, %r0 the thread, %r52 its word of shared memory. They hold `into`, if anything."""
    kernel = ptx_text.parse(HEADER + body + "\nret;\n}\n")["test"]
    device = memory.Global(1 << 16)
    size = 4 * threads
    into_at = device.allocate(size) if into is None else device.put(into.view(np.uint8))
    params = np.array([into_at], np.uint64).tobytes() + bytes(range(1, 9))
    machine.Launch(kernel, device, blocks, threads, params, most_steps).run()
    return list(device.get(into_at, size).view(np.uint32))


class Machine(unittest.TestCase):
    def fails(self, message, body, **arguments):
        with self.assertRaisesRegex(PtxError, message):
            run(body, **arguments)

    def test_threads_and_blocks_know_their_places(self):
        body = """mov.u32 %r1, %ctaid.x;
        mov.u32 %r2, %ntid.x;
        mad.lo.s32 %r3, %r1, %r2, %r0;
        mul.wide.u32 %d4, %r3, 4;
        add.s64 %d5, %d1, %d4;
        st.global.u32 [%d5], %r3;"""
        kernel = ptx_text.parse(HEADER + body + "\nret;\n}")["test"]
        device = memory.Global(1 << 16)
        into = device.allocate(4 * 96)
        machine.launch(kernel, device, 3, 32, np.array([into, 0], np.uint64).tobytes())
        self.assertEqual(list(device.get(into, 4 * 96).view(np.uint32)), list(range(96)))

    def test_threads_part_and_meet_again(self):
        found = run("""mov.u32 %r1, 0;
        mov.u32 %r2, 0;
        $AGAIN:
        setp.ge.u32 %p1, %r2, %r0;
        @%p1 bra $OUT;
        add.s32 %r2, %r2, 1;
        add.s32 %r1, %r1, %r2;
        bra.uni $AGAIN;
        $OUT:
        shfl.sync.bfly.b32 %r3|%p2, %r1, 1, %r60, %r61;
        @!%p2 add.s32 %r3, %r3, 1000;
        st.global.u32 [%d3], %r3;""")
        self.assertEqual(found, [(i ^ 1) * ((i ^ 1) + 1) // 2 for i in range(64)])

    def test_threads_that_go_straight_on_meet_those_that_jumped(self):
        found = run("""setp.lt.u32 %p1, %r0, 5;
        mov.u32 %r1, %r0;
        @%p1 bra $SKIPPED;
        add.s32 %r1, %r1, 100;
        $SKIPPED:
        shfl.sync.bfly.b32 %r3|%p2, %r1, 16, %r60, %r61;
        st.global.u32 [%d3], %r3;""", threads=32)
        self.assertEqual(found, [(i ^ 16) + (100 if (i ^ 16) >= 5 else 0) for i in range(32)])

    def test_shuffles_stay_in_their_warp(self):
        for mode, clamp, argument, peer in (("bfly", 31, 5, lambda i: i ^ 5),
                                            ("idx", 31, 7, lambda i: 7),
                                            ("up", 0, 2, lambda i: i - 2 if i >= 2 else i),
                                            ("down", 31, 3, lambda i: i + 3 if i < 29 else i)):
            found = run(f"""shfl.sync.{mode}.b32 %r3, %r0, {argument}, {clamp}, -1;
            st.global.u32 [%d3], %r3;""")
            self.assertEqual(found, [i // 32 * 32 + peer(i % 32) for i in range(64)], mode)

    def test_a_shuffle_wants_all_that_it_names(self):
        shuffle = "shfl.sync.bfly.b32 %r3|%p2, %r0, 1, %r60, %r61;\n"
        self.fails("a shuffle of lanes 0xffffffff finds lanes 0x7fffffff",
                   "setp.eq.s32 %p1, %r0, 31;\n@%p1 bra $OUT;\n" + shuffle + "$OUT:")
        self.fails("a shuffle of lanes 0x0000ffff finds lanes 0xffffffff",
                   shuffle.replace("%r61", "65535"))
        self.fails("reads a lane that its mask does not name", """setp.gt.u32 %p1, %r0, 15;
        @%p1 bra $OUT;
        shfl.sync.idx.b32 %r3, %r0, 20, 31, 65535;
        $OUT:""", threads=32)

    EXCHANGE = """st.shared.u32 [%r52], %r0;
    bar.sync 0;
    xor.b32 %r1, %r52, 128;
    ld.shared.u32 %r2, [%r1];
    st.global.u32 [%d3], %r2;"""

    def test_shared_memory_is_exchanged_at_a_barrier(self):
        self.assertEqual(run(self.EXCHANGE), [i ^ 32 for i in range(64)])
        self.fails("race: shared memory is read that another thread wrote since the barrier",
                   self.EXCHANGE.replace("bar.sync 0;", ""))
        self.fails("race: shared memory is written that another thread used since the barrier",
                   self.EXCHANGE + "\nst.shared.u32 [%r52], %r0;")
        self.fails("race: shared memory is written that another thread used since the barrier",
                   self.EXCHANGE + """
                   bar.sync 0;
                   ld.shared.u32 %r3, [words];
                   setp.eq.s32 %p1, %r0, 63;
                   @%p1 st.shared.u32 [words], %r0;""")
        self.fails("race: two threads write the same shared memory", "st.shared.u32 [words], %r0;")
        self.fails("shared memory is read that nobody wrote", "ld.shared.u32 %r1, [%r52];")
        self.fails("shared address 0x10100: there are 256 bytes",
                   "ld.shared.u32 %r1, [words+256];")

    def test_each_block_has_its_shared_memory(self):
        body = """mov.u32 %r1, %ctaid.x;
        setp.ne.s32 %p1, %r0, 0;
        @!%p1 st.shared.u32 [words], %r1;
        bar.sync 0;
        ld.shared.u32 %r2, [words];
        setp.eq.s32 %p2, %r1, %r0;
        @%p2 st.global.u32 [%d3], %r2;"""
        self.assertEqual(run(body, threads=4, blocks=4), [0, 1, 2, 3])

    def test_deadlocks(self):
        self.fails("deadlock: 63 of 64 threads ended", """setp.ne.s32 %p1, %r0, 5;
        @%p1 bra $OUT;
        bar.sync 0;
        $OUT:""")
        self.fails("deadlock: threads of a block wait at two barriers", """setp.gt.u32 %p1, %r0, 5;
        @%p1 bra $OTHER;
        bar.sync 0;
        ret;
        $OTHER:
        bar.sync 0;""")
        self.fails("still running after the most steps", "$AGAIN:\nbra $AGAIN;")

    def test_parameters(self):
        found = run("""mov.b64 %d4, bytes;
        ld.param.u16 %r1, [%d4+2];
        ld.param.v2.u8 {%r2, %r3}, [bytes+6];
        ld.param.u8 %h1, [bytes];
        cvt.u32.u16 %r4, %h1;
        add.s32 %r1, %r1, %r2;
        add.s32 %r1, %r1, %r3;
        add.s32 %r1, %r1, %r4;
        st.global.u32 [%d3], %r1;""", threads=1)
        self.assertEqual(found, [0x0403 + 7 + 8 + 1])
        self.fails("parameter address 0x2010: there are 16 bytes", "ld.param.u8 %r1, [bytes+8];")
        self.fails("misaligned: 4 bytes at parameter", "ld.param.u32 %r1, [bytes+1];")
        with self.assertRaisesRegex(PtxError, "takes 16 bytes of parameters, not 3"):
            kernel = ptx_text.parse(HEADER + "}")["test"]
            machine.launch(kernel, memory.Global(1 << 16), 1, 1, b"abc")

    def test_narrow_loads_extend_and_narrow_stores_cut(self):
        into = np.array([0x80FF7F01], np.uint32)
        for load, expected in (("u8 %r1, [%d1+3]", 0x80), ("s8 %r1, [%d1+3]", 0xFFFFFF80),
                               ("u16 %r1, [%d1]", 0x7F01), ("s16 %r1, [%d1+2]", 0xFFFF80FF)):
            body = f"ld.global.{load};\nst.global.u32 [%d3], %r1;"
            self.assertEqual(run(body, threads=1, into=into), [expected])
        body = "mov.u32 %r1, 0x1234;\nst.global.u8 [%d1+1], %r1;"
        self.assertEqual(run(body, threads=1, into=into), [0x80FF3401])

    def test_vectors_and_packed_registers(self):
        into = np.array([1, 2, 3, 4], np.uint32)
        swap = """setp.ne.s32 %p1, %r0, 0;
        @%p1 bra $OUT;
        ld.global.nc.v4.u32 {%r1, %r2, %r3, %r4}, [%d1];
        mov.b64 %d4, {%r1, %r2};
        mov.b64 {%r5, %r6}, %d4;
        mov.b32 {%h1, %h2}, %r3;
        mov.b32 %r7, {%h2, %h1};
        st.global.v2.u32 [%d1], {%r6, %r5};
        st.global.u32 [%d1+8], %r7;
        $OUT:"""
        self.assertEqual(run(swap, threads=4, into=into), [2, 1, 3 << 16, 4])

    def test_a_block_on_one_line_has_a_register_of_its_own(self):
        body = """{ .reg .b16 tmp; mov.b32 {tmp, %h1}, %r60; }
        mov.u32 %r1, 0x12345678;
        { .reg .b16 tmp; mov.b32 {tmp, %h1}, %r1; }
        { .reg .b16 tmp; mov.b32 {%h2, tmp}, %r1; }
        mov.b32 %r2, {%h1, %h2};
        st.global.u32 [%d1], %r2;"""
        self.assertEqual(run(body, threads=1), [0x56781234])
        self.fails("tmp is no register", "{ .reg .b16 tmp; mov.b32 {tmp, %h1}, %r0; }\n"
                   "mov.b32 %r1, {tmp, %h1};")
        self.fails("is read before it is written", """mov.u16 %h1, 1;
        { .reg .b16 tmp; mov.b32 {tmp, %h2}, %r0; }
        { .reg .b16 tmp; mov.b32 %r1, {%h1, tmp}; }""")
        self.fails("is not of the size of b16", "{ .reg .b32 tmp; mov.b32 {tmp, %h1}, %r0; }")
        for block in ("{ .reg .b16 tmp; mov.b32 {tmp, %h1}, %r0;", "{ mov.u32 %r1, 1; }",
                      "{ .reg .b16 tmp; mov.u32 %r1, 1; mov.u32 %r1, 2; }"):
            self.fails(f"^line {FIRST_LINE}: not understood", block)

    def test_global_memory(self):
        into = np.arange(64, dtype=np.uint32)
        self.fails("misaligned: 16 bytes at global address",
                   "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d1+4];", into=into)
        self.fails("misaligned: 8 bytes", "st.global.v2.u32 [%d1+4], {%r0, %r0};", into=into)
        self.fails("4 bytes at 0x7f0000000200 lie in no allocation",
                   "ld.global.u32 %r1, [%d3+8];", into=into)
        self.fails("lie in no allocation", "mov.u64 %d4, 8;\nld.global.u32 %r1, [%d4];", into=into)
        self.fails("global memory is read that nobody wrote", "ld.global.u32 %r1, [%d3];")
        self.fails("race: two threads write the same global memory", "st.global.u32 [%d1], %r0;")
        self.fails("race: two threads write", """setp.eq.s32 %p1, %r0, 0;
        @%p1 st.global.u32 [%d1], %r0;
        @!%p1 st.global.u32 [%d3+-4], %r0;""")
        self.fails("race: global memory is read that another thread wrote",
                   "st.global.u32 [%d3], %r0;\nld.global.u32 %r1, [%d1];")
        self.fails("128 of 256 bytes were never written, the first is byte 128",
                   "setp.lt.u32 %p1, %r0, 32;\n@%p1 st.global.u32 [%d3], %r0;")
        device = memory.Global(4096)
        self.assertLess(device.allocate(256) + 256, device.allocate(256))  # no overrun unseen
        with self.assertRaisesRegex(PtxError, "device memory of 64 bytes is too small"):
            memory.Global(64).allocate(1)

    def test_registers(self):
        self.fails("%r9 is read before it is written", "add.s32 %r1, %r9, 1;")
        self.fails("%r1 is read before it is written", """setp.eq.s32 %p1, %r0, 3;
        @%p1 mov.u32 %r1, 1;
        add.s32 %r2, %r1, 1;""")
        self.fails("%d0 is not of the size of s32", "add.s32 %r1, %d0, 1;")
        self.fails("%h1 is not of the size of u32", "mov.u32 %h1, 1;")
        self.fails("%x1.*is no register", "add.s32 %x1, %r0, 1;")

    def test_errors_name_the_line(self):
        for message, body in (
                ("unknown opcode tanh", "tanh.approx.f32 %f1, %f2;"),
                ("unknown or inexact modifiers ftz.f32", "add.ftz.f32 %f1, %f2, %f3;"),
                ("not understood", ".local .align 4 .b8 stack[8];"),
                ("not understood", "this is no instruction"),
                ("no such label", "bra $NOWHERE;"),
                ("unknown modifiers", "bra.wide $NOWHERE;"),
                ("unknown modifiers", "ret.wide;"),
                ("unknown modifiers", "ld.global.volatile.u32 %r1, [%d1];"),
                ("unknown modifiers", "cvta.to.shared.u64 %d4, %d0;"),
                ("unknown modifiers", "shfl.bfly.b32 %r1, %r0, 1, 31;"),
                ("unknown space local", "ld.local.u32 %r1, [%d1];"),
                ("unknown space local", "st.local.u32 [%d1], %r0;"),
                ("wants 2 registers", "ld.global.v2.u32 %r1, [%d1];"),
                ("wants 1 registers", "st.global.u32 [%d1], {%r0, %r0};"),
                ("vector of no known form", "mov.b32 %r1, {%h1, %h2, %h3, %h4};"),
                ("no address", "ld.global.u32 %r1, %d1;"),
                ("a shuffle within parts of a warp", "shfl.sync.idx.b32 %r1, %r0, 1, 7199, -1;"),
                ("a barrier other than that of all threads", "bar.sync 1;"),
                ("operand <3> is of no known form", "add.s32 %r1, %r0, <3>;"),
                ("an operand is of the wrong form", "add.s32 %r1, %r0, {%r0, %r0};")):
            self.fails(f"^line {FIRST_LINE}: {message}", body)
        with self.assertRaisesRegex(PtxError, "line 8: not understood before a kernel's body"):
            ptx_text.parse(HEADER.replace(".maxntid", ".cluster"))
        with self.assertRaisesRegex(PtxError, "line 1: not understood outside of kernels"):
            ptx_text.parse(".func (.param .b32 a) f()")
        with self.assertRaisesRegex(PtxError, "kernel test does not end"):
            ptx_text.parse(HEADER)
        with self.assertRaisesRegex(PtxError, "the end of the text is reached without ret"):
            kernel = ptx_text.parse(HEADER + "}")["test"]
            machine.launch(kernel, memory.Global(1 << 16), 1, 1, bytes(16))


if __name__ == "__main__":
    setting.main()
