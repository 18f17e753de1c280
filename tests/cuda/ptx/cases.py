"""The folds that kernels are tried on: sets of jobs, each for one launch. A set is a function of
the host library and of the sink's form; all of it repeats."""
import numpy as np

from host import BF16, FORMS, FP16, FP32, PLAIN_BYTES, Q4S, Q8, DeviceScale, Job, Run

# With every remainder of 8, which is a thread's share.
SIZES = (1, 2, 31, 45, 102, 2047, 2048, 2051, 4500)
SCALES = (1.0, 0.125, -1 / 3)
EXTREMES = np.array((0x00, 0x00, 0x01, 0x7B, 0x7C, 0x7F, 0x80, 0x80, 0xFF), np.uint8)
ALL = tuple(range(len(FORMS)))


def noise(elems, seed):
    return (np.random.default_rng(seed).standard_normal(elems) * 0.01).astype(np.float32)


def specials(elems, seed):
    """Noise in which runs of 96 elements are zero, denormal, tiny, huge, constant or not finite."""
    random, values = np.random.default_rng(seed), noise(elems, seed)
    factors = (0, -0.0, 1e-42, 1e-36, 3e-27, 1e5, 1e35, 1e-3)
    lonely = (np.inf, -np.inf, np.nan, -np.nan)
    for start in range(0, elems, 160):
        part = values[start:start + 96]
        kind = random.integers(0, 16)
        if kind < 8:
            part *= np.float32(factors[kind])
        elif kind == 8:
            part[:] = -0.75
        elif kind == 9:
            part[:] = np.resize((1.5, -1.5), len(part))
        elif kind == 10:
            part[:] = np.resize((-1, 1, 1), len(part)) * np.finfo(np.float32).max
        elif kind < 15:
            part[random.integers(0, len(part))] = lonely[kind - 11]
    return values


def any_bytes(size, seed):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def run_of(host, form, elems, count, seed, make=noise, offset=0):
    """`count` sources with a scale that the seed picks; plain ones `offset` elements off."""
    sources = [host.encoded(make(elems, seed * 100 + k), form) for k in range(count)]
    return Run(form, sources, SCALES[seed % 3], offset * PLAIN_BYTES[form] if form < Q8 else 0)


def sink_offset(form, elems):
    return elems * PLAIN_BYTES[form] if form < Q8 else 0


def each_source_and_size(host, _):
    """One source of every form, every size; a third with the scale 1, copies among them."""
    return [Job(elems, [run_of(host, source, elems, 1, source + i)], saturate=i % 2 == 1)
            for source in ALL for i, elems in enumerate(SIZES)]


def one_large_fold(host, form):
    """So many superblocks that the factors of a q4s message take more than one line."""
    elems = 17 * 2048 + 77
    return [Job(elems, [run_of(host, form, elems, 1, 1), run_of(host, Q4S, elems, 1, 2)])]


def several_sources(host, _):
    """Runs of 2, 3 and 8 messages, and two runs with scales of their own."""
    jobs = [Job(elems, [run_of(host, source, elems, count, source + count)])
            for source in ALL for elems, count in ((2100, 2), (77, 3), (513, 8))]
    return jobs + [Job(900, [run_of(host, source, 900, 2, 2), run_of(host, source, 900, 3, 4)])
                   for source in ALL]


def mixed_sources(host, _):
    """All forms in one fold, each of them first once: its order is that of the runs."""
    jobs = []
    for first in ALL:
        order = ALL[first:] + ALL[:first]
        jobs.append(Job(4444, [run_of(host, source, 4444, 1 + (source + first) % 2, first + place)
                               for place, source in enumerate(order)]))
    return jobs


def misaligned(host, form):
    """Plain sources and sinks at every offset of 16 elements, each with its own."""
    return [Job(2060, [run_of(host, source, 2060, 1, offset, offset=offset),
                       run_of(host, FP32, 2060, 1, 1, offset=offset // 4)],
                offset=sink_offset(form, offset * 7 % 16))
            for offset in range(16) for source in (FP32, BF16 + offset % 2)]


def copies(host, form):
    """One unscaled source of the sink's own form, NaN of any payload included, source and sink
    both aligned or not. Plain forms are copied bit by bit."""
    return [Job(elems, [Run(form, [any_bytes(host.form_bytes(form, elems), elems)],
                            offset=sink_offset(form, source))], offset=sink_offset(form, sink))
            for elems in (1, 2, 3, 4, 5, 6, 7, 8, 2053)
            for source, sink in ((0, 0), (0, 1), (3, 0), (5, 7))]


def special_values(host, _):
    """Every form of source, alone and in sums, saturating and not."""
    return [Job(2500 + 16 * source, [run_of(host, source, 2500 + 16 * source, count, seed,
                                            make=specials)], saturate=saturate)
            for source in ALL for seed, count in enumerate((1, 1, 3)) for saturate in (False, True)]


def any_bits(host, _):
    """Random bytes as tensors and messages: every exponent, NaN of any payload, any scale."""
    return [Job(2300, [Run(source, [any_bytes(host.form_bytes(source, 2300), 10 * source + k)
                                    for k in range(count)], SCALES[count % 3])],
                saturate=count == 1)
            for source in ALL for count in (1, 2, 3)]


def extreme_bits(host, _):
    """Bytes of which infinities, denormals, the largest and the smallest values are often made."""
    def make(size, seed):
        return np.random.default_rng(seed).choice(EXTREMES, size)
    return [Job(2300, [Run(source, [make(host.form_bytes(source, 2300), source)], scale)],
                saturate=saturate)
            for source in ALL for scale in (1.0, 0.5) for saturate in (False, True)]


def extreme_factors(host, _):
    """q4s messages of any bytes, under factors that no encoder writes."""
    factors = np.array((np.inf, -np.inf, np.nan, 3e38, -1e36, 1e-45, -0.0), np.float32)
    elems = 2048 * len(factors)
    message = any_bytes(host.form_bytes(Q4S, elems), 9)
    message[:factors.nbytes] = factors.view(np.uint8)
    return [Job(elems, [Run(Q4S, [message], scale)]) for scale in (1.0, 0.5)]


def ties(host, _):
    """Sums that lie in the middle: of two bf16, of two fp16, and largest magnitudes that put the
    scale of a block of q8 or q4s there."""
    turn = np.arange(4096)
    odd, sign = 2 * turn + 1, np.where(turn % 3 == 0, -1, 1)
    exponent = np.exp2(turn % 41 - 26.0)
    block = turn // 32
    q8_peak = 127 * (1 + (2 * block + 1) % 256 / 256) * np.exp2(block % 40 - 20.0)
    # Relative to 3584, the superblock's largest, E4M3 scales are integers over a power of two.
    q4s_peak = np.where(turn % 2048 < 32, 3584, 8 * (17 + 2 * block % 16) / np.exp2(block % 16))
    shrink = 1 - turn % 32 / 40  # of the other elements of a block
    return [Job(len(turn), [Run(FP32, [values.astype(np.float32).view(np.uint8)])])
            for values in (sign * (1 + odd % 256 / 256) * exponent,
                           sign * (1 + odd % 2048 / 2048) * exponent,
                           sign * q8_peak * shrink, sign * q4s_peak * shrink)]


def in_place(host, form):
    """The sink is a plain source of elements as large."""
    same_size = [source for source in (FP32, BF16, FP16)
                 if form < Q8 and PLAIN_BYTES[source] == PLAIN_BYTES[form]]
    return [Job(elems, [run_of(host, source, elems, 1, 2, offset=offset),
                        run_of(host, Q4S, elems, 2, 1)], in_place=True)
            for source in same_size for elems in (100, 2048, 3001) for offset in (0, 3)]


def device_scaled(host, form, scale):
    """Each form of source scaled from device memory, alone and beside others with their own."""
    def scaled(source, elems, count):
        run = run_of(host, source, elems, count, source + count)
        run.scale = scale
        return run
    return [Job(elems, runs) for source in ALL for elems in (45, 2051)
            for runs in ([scaled(source, elems, 1)],
                         [scaled(source, elems, 2), run_of(host, FP16, elems, 1, 2)])]


def device_scale_fp32(host, form):
    return device_scaled(host, form, DeviceScale(FP32, np.float32(-1 / 3).tobytes()))


def device_scale_bf16(host, form):
    return device_scaled(host, form, DeviceScale(BF16, bytes((0xCD, 0x3E))))


def device_scale_fp16(host, form):
    """A denormal one."""
    return device_scaled(host, form, DeviceScale(FP16, bytes((0x21, 0x80))))


def device_scale_of_one(host, form):
    """It makes copies, in which NaN of any payload stay."""
    one = DeviceScale(FP32, np.float32(1).tobytes())
    return [Job(elems, [Run(form, [any_bytes(host.form_bytes(form, elems), elems)], one)])
            for elems in (1, 8, 2053)] + device_scaled(host, form, one)


SETS = {set_of.__name__: set_of for set_of in (
    copies, each_source_and_size, one_large_fold, several_sources, mixed_sources, misaligned,
    special_values, any_bits, extreme_bits, extreme_factors, ties, in_place,
    device_scale_fp32, device_scale_bf16, device_scale_fp16, device_scale_of_one)}
