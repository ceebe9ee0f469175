"""The baseline, 6 x 384, context 256: every knob with its default value.

Command:   python -m juliagpt_jax.main --config=configs/base.py --workdir=runs/base
Hardware:  meant for a GPU, not run on one yet; 14,175,744 parameters on the schoolroom corpus
Time:      two CPU cores would need about 10 hours (7.5e+15 FLOPs, at the rate measured in experiments/speed)
Result:    not measured yet
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 42  # of the initial weights, the order of the data, dropout and samples

    config.data = data = ml_collections.ConfigDict()
    data.path = "schoolroom"  # embedded; a folder with train.txt and val.txt; .txt files; shards, or a mixture.toml
    data.tokenizer = "char"  # a token a character; bpe: learned from the training text; or a tokenizer.json of tokenize
    data.vocab = 2_048  # tokens that bpe learns: 256 bytes, three special ones, and pieces of words
    data.errors = "strict"  # bytes that are not UTF-8: strict refuses, replace counts and replaces them
    data.unknown = "error"  # validation characters that text or tokenizer lack: error refuses, skip drops and counts
    data.on_bad = "error"  # a bad line of metadata: error refuses, skip leaves its passage out and counts
    data.max_bad = 0.01  # share of the lines that on_bad=skip may leave out: more is no accident
    data.max_leak = 0.05  # share of validation passages that may stand in the training text, word for word or nearly
    data.snapshot = ""  # SHA-256 of the manifest.jsonl at the path: train on these bytes or not at all; "": any
    data.scores = ""  # an .npz of more fields, one value a passage, such as the command score writes
    data.filter = ""  # passages to train on: "phase in trivium, quadrivium; quality >= 0.6"; a passage is a line
    data.keep = ""  # of these, "middle 0.6 of difficulty": the top, middle or bottom by a field; or "random 0.6"
    data.phase_weights = ""  # shares of what is drawn: "trivium:0.4, quadrivium:0.35, philosophy:0.25", or a .json file
    data.weights_by = "phase"  # the field of words whose values the weights name; also of the losses in the report
    data.order = "random"  # a name of data/orders.py: random, easy_first, hard_first, interleaved
    data.windows = "ring"  # the text as it lies, cut anew each epoch; documents: passages shuffled; fixed: cut once

    data.task = "none"  # examples in place of a text: a name of data/tasks/build.py, or jsonl, those of data.path

    data.examples = examples = ml_collections.ConfigDict()
    examples.chat = False  # prompt and answer are what user and model say, as the model's chat template writes it
    examples.length = 0  # tokens of a row; 0: as the longest example has, or with pack the model's context
    examples.too_long = "error"  # of an example longer than that: error refuses, cut shortens, skip drops; both count
    examples.pack = False  # several examples a row, none of which sees another: fewer rows, the same loss
    examples.most = 0  # examples to train on at most, the same for every seed; 0: all there are
    examples.written = 200  # dev examples that are answered at the end of a run, to see how many are right

    data.curriculum = curriculum = ml_collections.ConfigDict()
    curriculum.by = "difficulty"  # the field of numbers that says what is easy: low
    curriculum.after = 0.0  # epochs of random order before it: a warm-up
    curriculum.epochs = 0.0  # epochs that it lasts, random order follows; 0: to the end
    curriculum.parts = 4  # rounds from easy to hard in an epoch of interleaved order; stages of step pacing
    curriculum.pacing = "linear"  # a name of data/orders.py: how the sorted windows become available in an epoch
    curriculum.pacing_start = 0.0  # share of them available from its start; 0 with linear pacing: strictly sorted

    data.puzzle = puzzle = ml_collections.ConfigDict()
    puzzle.kind = "none"  # sudoku, maze, arc or logic (data/puzzles/build.py); data.path is then generated, or files
    puzzle.side = 6  # rows of a sudoku (4, 6 or 9), or of a maze with its walls (odd); of logic, characters of a row
    puzzle.train = 1_000  # puzzles to train on, each in many forms
    puzzle.test = 1_000  # puzzles to test on, none of which is one of those in another form
    puzzle.least = 10  # givens of a generated sudoku at least: fewer are harder; of a maze, steps of its path
    puzzle.most = 12  # ... and at most; 0: any number
    puzzle.symmetries = True  # each time that a puzzle is drawn, it is turned and its symbols change their names
    puzzle.copies = 1  # of each ARC task, with other colours, turned and moved; each has an embedding of its own

    config.model = model = ml_collections.ConfigDict()
    model.kind = "decoder"  # a name of models/build.py: what the parts below are put together to
    model.width = 384  # channels of the residual stream
    model.layers = 6  # blocks of a mixer and a channel mixer
    model.heads = 3  # 128 channels a head did better than 64 in the published speed runs
    model.kv_heads = 0  # key/value heads of grouped-query attention; 0: as many as heads
    model.context = 256  # tokens the model sees: a window in training, the cache in generation
    model.ffn_mult = 4.0  # hidden width of SwiGLU in widths (three matrices, so 8/3 has the size of a 4x MLP)
    model.dropout = 0.0  # of the embedding, attention weights and branches; a few epochs need none
    model.dropout_on = "all"  # of these; branches: of what a block adds to the residual stream alone
    model.word_dropout = 0.0  # share of the distinct tokens of a row that are not read; for few examples
    model.tie = True  # the head is the transposed embedding
    model.norm = "rms"  # a name of models/layers.py; layer: GPT-2's LayerNorm
    model.norm_eps = 1e-5  # added to the variance in every norm; models from outside have 1e-6 or 1e-5
    model.bias = False  # Linears and LayerNorms have biases, as in GPT-2
    model.qkv_bias = False  # queries, keys and values of attention have biases, and nothing else, as in Qwen2
    model.positions = "rotary"  # how attention knows where tokens stand; learned: a vector each, as in GPT-2; or none
    model.rope_base = 10_000.0  # of the rotary embedding's wavelengths; enough for some thousand tokens
    model.qk_norm = False  # attention normalises its queries and keys, each head's channels
    model.init = "normal"  # a name of models/layers.py: how matrices begin; xavier: uniform, by both sides; truncated
    model.zero_init = False  # the last projection of every branch starts at 0, so a new block changes nothing
    model.x0_skip = False  # the embedding flows into every layer, by two learned numbers a layer
    model.unet = False  # layer i's output flows into layer L-1-i, times a learned number that begins at 1
    model.value_embedding = "none"  # repeated over the layers; x0: attention's values get a projection of the embedding
    model.head_gate = False  # attention multiplies what each head found by 2 sigmoid(w x), which begins at 1
    model.softcap = 0.0  # logits stay within it, by softcap * tanh(logits / softcap); 0: as they are
    model.mixer = "attention"  # names of models/mixers.py, repeated over the layers
    model.mask = "causal"  # names of models/masks.py, repeated over the layers: causal, window, sinks, none
    model.window = 128  # newest tokens that the masks window and sinks show; where it pays, time and cache go by it
    model.sink_tokens = 4  # first tokens that the mask sinks shows beside them; StreamingLLM's number
    model.sink = "none"  # learnt, to look at nothing: logit, one a head in its softmax; token, before every window
    model.channel = "swiglu"  # names of models/channels.py, repeated over the layers
    model.depth = "stack"  # names of models/depth.py, repeated over the layers: what a layer does with its block
    model.linear = "dense"  # a name of models/layers.py; ternary: 1.58 bits, int8 activations; subln: its norms alone
    model.scan_layers = False  # layers that repeat run as a loop: their program does not grow with depth

    model.ode = ode = ml_collections.ConfigDict()
    ode.solver = "euler"  # a name of models/ode.py; these knobs act in layers whose depth is "ode"
    ode.steps = 6  # equal steps of a solve from t = 0 to 1: the effective depth, at a solver of one evaluation
    ode.min_steps = 0  # each training step draws its number of steps from here to ode.steps; 0: always ode.steps
    ode.rtol = 0.0  # tolerance of adaptive steps in training (evaluation: a schedule for it); 0: equal steps
    ode.max_steps = 64  # where an adaptive solve gives up
    ode.speed = 6.0  # dx/dt in blocks: Euler with as many steps is a stack of so many blocks that share weights
    ode.time = "embedded"  # how t enters the field, a name of models/fields.py; also none, lowrank, generated
    ode.modes = 4  # functions of t that are mixed to a shift, a scale or a matrix
    ode.rank = 4  # of each mode's change of a matrix, for lowrank
    ode.adjoint = "recursive"  # how the gradient is computed: recursive, direct, backsolve, reversible

    model.monarch = monarch = ml_collections.ConfigDict()
    monarch.blocks = 4  # of each factor of a Monarch linear, whose square has 2 / blocks of the dense weights
    monarch.conv_width = 3  # taps of the short convolution inside the Monarch mixers, the token's own included
    monarch.filter_order = 16  # hidden width of the network that makes the Monarch mixer's long filter
    monarch.filter_bands = 2  # waves of the position that this network sees, a sine and a cosine each
    monarch.filter_sine = 10.0  # what its sines begin to multiply by; more makes a rougher filter
    monarch.filter_fast = 0.3  # contexts after which the fastest channel's filter has faded to 1%
    monarch.filter_slow = 1.5  # ... and the slowest channel's

    model.kda = kda = ml_collections.ConfigDict()
    kda.heads = 0  # of queries and keys in the mixers kda and gated_deltanet; 0: as model.heads
    kda.value_heads = 0  # of values and states, a multiple of heads; 0: as many
    kda.head_width = 0  # channels of a head's queries and keys, 128 in the paper; 0: model.width / heads
    kda.value_width = 0  # channels of a head's values; 0: as head_width
    kda.conv_width = 4  # taps of the short convolution before them; the paper's
    kda.gate_rank = 0  # of the matrices behind decay and output gate; 0: as value_width, the paper's
    kda.bound = 0.0  # a token fades a channel to exp(-bound) at most; 0: without a bound, the paper's
    kda.negative = False  # eigenvalues down to -1: a key can turn what is held of it round, as parity needs
    kda.delta = True  # write what is new of a value; False: all of it, a linear attention that fades, to compare

    model.moe = moe = ml_collections.ConfigDict()
    moe.experts = 8  # in a layer whose channel is moe; 8 copies of one channel, with a router before them
    moe.top = 2  # experts that a token goes through; 1 is Switch Transformer's, 2 Mixtral's
    moe.expert = "swiglu"  # a name of models/channels.py: what an expert is
    moe.expert_mult = 2.0  # hidden width of an expert in widths: two of these compute as much as one of ffn_mult=4
    moe.shared = 0  # experts more, in one channel of so many times their width, that every token goes through
    moe.gate = "chosen"  # weights of what experts give: softmax over the chosen, or their part of that over all
    moe.capacity = 0.0  # room of an expert in equal shares, in training; drops the rest, breaks causality; 0: no limit

    model.sparse = sparse = ml_collections.ConfigDict()
    sparse.top = 32  # keys of each query in the mixer topk, those with the highest scores
    sparse.block = 32  # tokens of a block in the mixer blocksparse; longer ones are faster, shorter ones choose finer
    sparse.blocks = 3  # earlier blocks that each of its queries chooses, beside its own

    model.tt = tt = ml_collections.ConfigDict()
    tt.cores = 3  # of each tensor train, in the Linears and the channel tt: sides are cut into as many factors
    tt.ranks = "8"  # between neighbours, repeated; parameters and FLOPs grow with their squares

    model.recursive = recursive = ml_collections.ConfigDict()
    recursive.core = "attention"  # names of models/recursive.py, repeated over the layers; also mlp_t, kda
    # model.kind=recursive, and the first two also of model.depth=recursive, which evaluates a block n T + T times
    recursive.inner = 6  # n: updates of the low state to one of the high state; 0: there is no low state
    recursive.outer = 3  # T: such cycles in a step, of which the last has a gradient
    recursive.slots = 16  # places before the puzzle; the first holds the embedding of its id
    recursive.ids = 1  # embeddings of puzzles: one for all, or one for each ARC task in each of its forms; 0: none
    recursive.multiple = 256  # hidden widths are rounded up to one of it
    recursive.both_ways = True  # kda reads forwards and backwards, each with weights of its own, and adds both up
    recursive.gate = "silu"  # of the channel: silu(g) v; normalised: sigmoid(g) rms(g v), which Muon likes better
    recursive.latents = 1  # answers worked out side by side from different beginnings, of which the best one learns

    model.t5 = t5 = ml_collections.ConfigDict()
    t5.encoder_layers = 0  # layers that read the source, with model.kind=t5; model.layers write; 0: as many
    t5.head_width = 0  # channels of a head; 0: model.width / heads
    t5.channel = "geglu"  # a name of models/t5.py: version 1.1 has geglu, 1.0 relu
    t5.buckets = 32  # of distances between tokens, each with a bias of its own; the authors'
    t5.distance = 128  # from which on all share the last bucket
    t5.scale_head = False  # logits times 1 / sqrt(width), as 1.0 has them, whose head is tied

    config.train = train = ml_collections.ConfigDict()
    train.steps = 5_000  # updates of the parameters
    train.batch_size = 64  # windows an optimizer step, over all devices and micro-batches
    train.accumulate = 0  # micro-batches the batch is cut into, same gradient; 0: 1, or on a CPU what suits its caches
    train.steps_per_call = 1  # steps that the device makes before it is spoken to again: for small models on a GPU
    train.optimizer = "adamw"  # a name of training/optimizers.py: adamw, adam_atan2, muon, soap, kfac
    train.lr = 6e-4  # the highest, after the warm-up; GPT-3's for a model of this size
    train.adam_lr = 0.0  # of what the optimizer leaves to AdamW, or AdamW's own for all but matrices; 0: as lr
    train.min_lr = 6e-5  # where the schedule ends, unless it is constant
    train.schedule = "cosine"  # of the learning rate, a name of training/schedules.py: linear, trapezoid, cycles, ...
    train.warmup = 100  # steps in which it rises
    train.warmup_tokens = 0  # the same in tokens, so that another batch size warms up on as much text; 0: warmup
    train.decay_share = 0.5  # of the steps: where the trapezoid comes down; published speed runs use 0.4 to 0.65
    train.stages = ""  # of schedule=stages, "800:6e-4 200:6e-4>6e-5", steps and rates; a mixture.toml's own replace it
    train.beta1 = 0.9  # decay of the mean of the gradient
    train.beta2 = 0.99  # a small batch wants a longer memory than GPT-3's 0.95
    train.weight_decay = 0.1  # of matrices and the embedding; norm scales have none
    train.weight_decay_schedule = "learning_rate"  # goes up and down with it; on top linear, valley; or constant
    train.decay_tau = 0.0  # 1 / (lr * decay), over so many epochs the weights average; 0: as weight_decay says
    train.decay_tau_embed = 0.0  # the same of embedding and head; 0: as decay_tau
    train.cautious = False  # decay only the numbers that the step itself draws towards zero
    train.clip = 1.0  # global gradient norm
    train.ternary_from = 0.0  # share of the steps before model.linear=ternary rounds; until then it computes as subln
    train.precision = "f32"  # of matrix products and activations: f32, bf16, f16 (with a dynamic loss scale)
    train.remat = False  # recompute blocks in the backward pass: less memory (processors: with scan_layers), more time
    train.ema = 0.0  # decay of an average of the weights, evaluated beside the raw ones; 0: none
    train.ema_half_life = 0.0  # the same by its half-life in epochs, which fits any batch and text; in place of ema
    train.tail = 0.0  # share of the steps at the end whose weights are averaged, all alike; in place of ema
    train.init = "none"  # workdir of the run whose weights and tokenizer this one begins with; none: from the seed
    train.objective = "next_token"  # a name of objectives/build.py: what a step minimises; distil, dpo, ipo, orpo, ...
    train.ode_energy = 0.0  # weight in the loss of the kinetic energy of ODE layers, for fields that need few steps
    train.max_bad_steps = 20  # non-finite steps in a row before giving up
    train.log_every = 10  # steps between two rows of metrics.jsonl
    train.eval_every = 250  # steps between two measurements on the validation text
    train.eval_windows = 128  # fixed validation windows scored at each evaluation; the end scores the whole text
    train.final_windows = 0  # validation windows scored at the end, evenly spread; 0: what report_share allows
    train.report_share = 0.25  # work of the report, in that of training: a short run scores and writes less; 0: all
    train.checkpoint_every = 1_000  # steps; what a crash may cost
    train.keep = 3  # newest checkpoints kept, beside the best
    train.sample_every = 500  # steps between samples on the terminal; 0: none
    train.sample_tokens = 200  # tokens of such a sample
    train.wandb = ""  # project of Weights & Biases that gets the metrics as well; offline by WANDB_MODE=offline

    train.cycles = cycles = ml_collections.ConfigDict()
    cycles.count = 4  # cosine cycles that end a run of schedule=cycles; the weights at their ends are averaged
    cycles.share = 0.2  # of the steps, for all of them: before, the rate falls by a cosine to where a cycle begins
    cycles.peak = 1.0  # that is, in train.lr; each cycle ends at min_lr

    train.muon = muon = ml_collections.ConfigDict()
    muon.momentum = 0.95  # decay of Muon's mean of the gradient; the authors'
    muon.polar = "quintic"  # how near it comes to equal singular values, a name of training/muon.py; also exact

    train.soap = soap = ml_collections.ConfigDict()
    soap.every = 10  # steps between two updates of SOAP's bases; the authors'
    soap.max_side = 2_048  # a longer side of a matrix gets none: n^2 numbers twice, n^3 operations an update

    train.kfac = kfac = ml_collections.ConfigDict()
    kfac.fisher = "sampled"  # labels drawn from the model: the Fisher matrix; empirical: the text's own labels
    kfac.sharing = "expand"  # every position is an example; reduce: sums over a window's positions are
    kfac.damping = 1e-4  # what is added to the Fisher matrix; 1e-3 and 1e-2 did worse
    kfac.kl = 1e-3  # trust region: a step changes predictions by half of this, in nats; 0: no limit
    kfac.ema = 0.95  # decay of the running means of the factors, a measurement
    kfac.factors_every = 5  # steps between two measurements of the factors, each about a step's work
    kfac.inverse_every = 5  # steps between two inversions of the factors

    train.ngram = ngram = ml_collections.ConfigDict()
    ngram.kind = "bigram"  # what the corpus's n-grams ask of predictions, a name of objectives/ngrams.py
    ngram.weight = 0.0  # weight of that penalty in the loss; 0: none

    train.doremi = doremi = ml_collections.ConfigDict()
    doremi.reference = "none"  # workdir of the run whose losses doremi measures by; the command doremi sets it
    doremi.eta = 1.0  # step size of the weights of domains; the paper's
    doremi.smoothing = 1e-4  # uniform share of these weights; the paper's

    train.distil = distil = ml_collections.ConfigDict()
    distil.teacher = "none"  # workdir of a run that distil imitates; several with commas: the mean of their predictions
    distil.averaged = False  # with the averaged weights of the teachers
    distil.alpha = 0.5  # weight of that in the loss; next tokens have the rest
    distil.temperature = 1.0  # logits are divided by it on both sides; above 1 small probabilities teach more

    train.preference = preference = ml_collections.ConfigDict()
    preference.beta = 0.1  # of dpo's rewards, ipo's tau, orpo's lambda; more keeps the model nearer to the reference
    preference.reference = "none"  # workdir of the model that rewards are measured from; none: that of train.init
    preference.samples = 0  # answers of the reference to each question: a wrong one is rejected; 0: as stated
    preference.sft = 0.0  # weight of the chosen answer's loss a token beside dpo and ipo, under which it may else fall

    train.written = written = ml_collections.ConfigDict()
    written.group = 8  # answers to a question that grpo, expert_iteration and on_policy write, of train.batch_size
    written.temperature = 1.0  # of what is written; 1 draws as the model says
    written.most = 0  # tokens of such an answer at most; 0: a few more than the longest one of the examples

    train.value = value = ml_collections.ConfigDict()
    value.generator = "none"  # workdir of the model whose answers value learns to judge; none: that of train.init
    value.samples = 4  # answers to each question that it writes for that, once
    value.level = "token"  # judge behind each token; solution: behind the last; prefix: what is there up to each
    value.text = 0.0  # weight of the loss of the right tokens themselves, learned beside the verdict

    train.moe = moe = ml_collections.ConfigDict()
    moe.balance = 0.01  # weight in the loss of unequal shares of experts, each window by itself; Switch Transformer's
    moe.router_z = 0.001  # weight of the routers' squared logsumexp, which keeps their logits small; ST-MoE's

    train.recursive = recursive = ml_collections.ConfigDict()
    recursive.steps = 16  # supervision steps of a puzzle at most; evaluation always makes as many
    recursive.explore = 0.1  # share of the steps in which a row may not halt before a random number of them
    recursive.halt_weight = 0.5  # of the halting loss beside that of the symbols
    recursive.ids_lr = 1e-4  # of the embeddings of puzzles, which move by signs; 1e-2 for ARC; 0: as lr
    recursive.ids_decay = 1.0  # weight decay of those that a step has seen
    recursive.growth = "none"  # inner x outer of stages before the model's own, as long each: 2x1 4x2 before 6x3

    config.adapter = adapter = ml_collections.ConfigDict()
    adapter.rank = 0  # LoRA: of two thin matrices beside a Linear, which alone are trained; 0: everything is
    adapter.alpha = 16.0  # their product is multiplied with alpha / rank
    adapter.dropout = 0.0  # of what they are given
    adapter.targets = "all"  # Linears that have them: all, mixer, channel, or names as query value gate
    adapter.layers = "all"  # layers that have them, such as 0 2 4-7
    adapter.base = "float"  # the frozen kernels: float, or int8, nf4, q4_1 (QLoRA), made float again for each product

    config.mesh = mesh = ml_collections.ConfigDict()
    mesh.data = 0  # devices that share the batch alone; 0: all that are left (on a CPU: two, if it has two cores)
    mesh.model = 1  # devices that share each matrix by its columns or rows, experts one by one (tensor parallel)
    mesh.fsdp = 1  # devices that share the batch and the whole state; parameters come together a layer at a time
    mesh.deterministic = False  # the same bits on any number of cores; slower; docs/determinism.md
    return config
