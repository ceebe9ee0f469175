"""The role of each parameter, by its path: the one place that tells a kernel from a norm's scale.

Whoever treats parameters differently asks for the role here: the optimizers (decay, rules for matrices), K-FAC's taps,
casting, storing in few bits, cutting over devices, counting. A new part declares its leaves as rows of the table at the
end; a path that no row knows is an error that names it.
"""

import functools
import re
from typing import NamedTuple

from juliagpt_jax.ground.errors import UserError


class Role(NamedTuple):
    """The treatment that a parameter gets in the rest of the package.

    Attributes:
        kind: what it is, in a word.
        axes: the names of its axes.
        decay: weight decay acts on it.
        matrix: it maps channels to channels, or several such matrices along its leading axes do: what Muon and SOAP
            take. Embedding and head do not, whose one side counts tokens; nor does what describes a filter.
        tapped: it is the weight of a product whose inputs and output gradients `models/capture.py` can see: what K-FAC
            takes.
        cast: it computes in the model's precision, and is cast to it once for inference; else it stays float32.
        trained: gradients move it. Whole numbers are for inference alone.
        counted: how many of the model's parameters each of its numbers stands for: 1, or 0 for what is none, or 2
            where a byte holds two.
        stored: how a packed file may keep it: "table" in a word of `packed.EMBEDDINGS`, "half" in float16, "levels" in
            bytes or less, "exact" as it is.
    """

    kind: str
    axes: tuple[str, ...]
    decay: bool
    matrix: bool
    tapped: bool
    cast: bool
    trained: bool
    counted: int
    stored: str

    @property
    def each(self) -> bool:
        """Experts have one each, along the first axis (`models/moe.py`): a token goes through some of them."""
        return self.axes[:1] == ("expert",)

    @property
    def turned(self) -> bool:
        """A matrix (..., rows, columns) that maps its columns to its rows, as Monarch factors do, not rows to
        columns."""
        return self.axes[-2] == "out" or self.axes[-1] == "in"

    def sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return (in, out) of a matrix, or of each along its leading axes."""
        *_, rows, columns = shape
        return (columns, rows) if self.turned else (rows, columns)


@functools.cache
def of(path: str) -> Role:
    """Return the role of a parameter, "block_0/mixer/query/kernel"; a path within a block, "mixer/query/kernel", does
    as well.

    Raises:
        UserError: no row of the table is for it.
    """
    before, experts, inside = path.partition("experts/")
    if experts:  # a parameter of a channel, of each expert; taps see rows of padding among its inputs
        one = of(before + inside)
        return one._replace(axes=("expert", *one.axes), tapped=False)
    if "channel/shared/" in path:  # what lies beside experts is a channel, too
        return of(path.replace("channel/shared/", "channel/"))
    found = [(row, match) for row in ROLES if (match := _pattern(row[0]).fullmatch(path))]
    if not found:
        raise UserError(f"{path}: no role is known of such a parameter; a new part declares its own in models/roles.py")
    if len(found) > 1:
        raise ValueError(f"{path}: {' and '.join(row[0] for row, _ in found)} of models/roles.py are both for it")
    ((_, kind, axes, words), match) = found[0]
    flags = set(words.split())
    weight = match.groupdict().get("weight")
    if weight is None:
        named, matrix = axes, "matrix" in flags
    else:
        theirs = of(weight.replace(".", "/"))
        named, matrix = _of_time(axes, theirs.axes), "matrix" in flags and theirs.matrix
    (stored,) = flags & {"table", "half", "levels"} or {"exact"}
    return Role(
        kind=kind,
        axes=tuple(named.split()),
        decay="decay" in flags,
        matrix=matrix,
        tapped="tapped" in flags,
        cast="cast" in flags,
        trained="fixed" not in flags,
        counted=0 if "uncounted" in flags else 2 if "pairs" in flags else 1,
        stored=stored,
    )


def _of_time(axes: str, weight: tuple[str, ...]) -> str:
    """The names of axes with those of the weight in the places of ALL, ROWS (all but the last), BATCH (all but two)
    and LAST."""
    parts = {"ALL": weight, "ROWS": weight[:-1], "BATCH": weight[:-2], "LAST": weight[-1:]}
    return " ".join(" ".join(parts.get(name, (name,))) for name in axes.split())


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    """The regular expression of a row's path, see ROLES."""
    wild = {"**/": r"(?:[^/.]+/)*", "*": r"[^/.]+", "#": r"\d+", "<weight>": r"(?P<weight>[^/]+\.[^/]+)"}
    parts = re.split(r"(\*\*/|\*|#|<weight>|\{[^}]*\})", text)

    def one(part: str) -> str:
        if part.startswith("{"):
            return f"(?:{'|'.join(map(one, part[1:-1].split(',')))})"
        return wild.get(part, re.escape(part))

    return re.compile("".join(map(one, parts)))


def layer(path: str) -> int | None:
    """Return the number of the layer that a parameter belongs to; None where it belongs to the whole model."""
    found = re.match(r"block_(\d+)(?:/|$)", path)
    return int(found[1]) if found else None


def cut(path: str, shape: tuple[int, ...], parts: int, taken: int | None = None) -> int | None:
    """Return the axis along which an array of a training state is cut into as many parts that come together before
    they are used, None for one that stays whole: the longest that can be, of matrices and larger arrays alone.

    Args:
        path: of the array in the state. It may be a parameter or what an optimizer keeps of one under its path.
        taken: the axis that is cut for another reason.
    """
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0 and axis != taken]
    if parts == 1 or len(shape) < 2 or not fitting:
        return None
    return max(fitting, key=lambda axis: shape[axis])


def tensor_cut(path: str, shape: tuple[int, ...], parts: int) -> int | None:
    """Return the axis along which an array of a training state is cut into as many parts that compute each for itself,
    None for one that stays whole (Megatron-LM: Shoeybi et al. 2019, arXiv 1909.08053, section 3): experts one by one;
    the first matrices of a branch by the outputs, its last by the inputs, so that what lies between them lies on one
    device; tables by tokens; blocks of a Monarch matrix one by one; and what an optimizer keeps of a parameter under
    its path like the parameter, or, where it has another form, along its longest axis.
    """
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or len(shape) < 2 or not fitting:
        return None
    longest = max(fitting, key=lambda axis: shape[axis])
    names = path.split("/")
    for start in range(len(names)):
        try:
            role = of("/".join(names[start:]))
        except UserError:
            continue
        if len(role.axes) != len(shape):
            break
        last = len(names) > 1 and names[-2] in LAST
        wanted = ("expert", "token", "blocks", "in" if last else "out")
        axes = [role.axes.index(name) for name in wanted if name in role.axes]
        return next((axis for axis in axes if axis in fitting), longest)
    return longest


LAST = ("out", "down")  # the Linears in which a mixer or a channel ends

# fmt: off
# A path: `**/` is any names before it, `*` one name, `#` a number, {a,b} one of several, <weight> the path of another
# parameter with dots, on which the time of an ODE acts. Its axes. What is true of it: `decay`, `matrix`, `tapped`,
# `cast`, `fixed` (not trained), `uncounted`, `pairs` (two in a byte); `table`, `half` or `levels` as it is stored. A
# matrix of time is one if its weight is; ALL, ROWS, BATCH and LAST are axes of that.
ROLES = (
    # path                               kind           axes                       what is true of it
    ("embedding",                        "embedding",   "token width",             "decay cast table"),
    ("positions",                        "positions",   "token width",             "decay cast table"),
    ("head",                             "head",        "in token",                "decay tapped cast table"),
    ("{skip,unet}_#",                    "skip",        "source",                  ""),
    ("sink_token",                       "sink",        "width",                   ""),
    # of recursive models: the states that they begin with, the embeddings of puzzles, the halting head
    ("start_{high,low}",                 "start",       "width",                   ""),
    ("ids",                              "ids",         "id width",                ""),
    ("halt",                             "halt",        "width",                   ""),
    ("halt_bias",                        "halt",        "",                        ""),
    # of a T5: what is added to products of queries and keys, by their distance
    ("**/bias/buckets",                  "biases",      "bucket head",             ""),
    # Linears of any kind, wherever they are, and norms
    ("**/kernel",                        "kernel",      "in out",                  "decay matrix tapped cast"),
    ("**/kernel_int8",                   "levels",      "in out",                  "fixed levels"),
    ("**/kernel_scale",                  "unit",        "out",                     "fixed uncounted"),
    ("**/kernel_{nf4,q4_1}",             "levels",      "in out",                  "fixed pairs"),
    ("**/kernel_{absmax,step,least}",    "unit",        "block out",               "fixed uncounted"),
    ("**/{mixer,cross,channel}/*/{left,right}", "factor", "blocks out in",         "decay matrix tapped cast half"),
    ("**/{mixer,cross,channel}/*/core_#", "core",       "in out",                  "decay matrix tapped cast half"),
    ("**/bias",                          "bias",        "out",                     ""),
    ("**/scale",                         "scale",       "width",                   ""),
    # what mixers have beside them
    ("**/mixer/{left,right}",            "averages",    "heads group to from",     "decay cast"),
    ("**/mixer/sink_logit",              "sink",        "head",                    ""),
    ("**/mixer/skip",                    "skip",        "width",                   ""),
    ("**/mixer/gate",                    "gate",        "width head",              "cast"),
    ("**/mixer/short/taps",              "taps",        "lag width",               "cast"),
    ("**/mixer/{beta,decay}",            "gate",        "in heads",                "decay cast"),
    ("**/mixer/A_log",                   "rates",       "heads",                   ""),
    ("**/mixer/dt_bias",                 "rates",       "width",                   ""),
    # what channels have beside them
    ("**/channel/router",                "router",      "width expert",            "decay"),
    ("**/mixer/filter/frequency",        "filter",      "hidden",                  ""),
    ("**/mixer/filter/bias_#",           "filter",      "hidden",                  ""),
    ("**/mixer/filter/weight_{#,out}",   "filter",      "from to",                 ""),
    # how the time of an ODE acts on its block
    ("**/time/shift",                    "time",        "modes width",             "cast"),
    ("**/time/<weight>",                 "time",        "modes ALL",               "cast"),
    ("**/time/<weight>/left",            "time",        "modes ROWS rank",         "decay matrix cast"),
    ("**/time/<weight>/right",           "time",        "modes BATCH rank LAST",   "decay matrix cast"),
    ("**/time/<weight>/modes",           "time",        "modes ALL",               "matrix cast"),
    ("**/time/<weight>/{in,out}",        "time",        "from to",                 "cast"),
    ("**/time/<weight>/{in,out}_bias",   "time",        "to",                      ""),
    # what is added to a Linear, and trained while the rest is frozen (`models/adapters.py`)
    ("**/lora/a",                        "adapter",     "in rank",                 "decay matrix cast"),
    ("**/lora/b",                        "adapter",     "rank out",                "decay matrix cast"),
)
# fmt: on
