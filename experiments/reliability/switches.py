"""Guards of each of the 28 faults of docs/reliability.md: the text that switches each off, and the test that must fail
then.

A new guard is one line of TABLE; its test must be one that the fault's row of the page names.
"""

import dataclasses

TRAINING, OUTSIDE = "tests/faults/test_training.py", "tests/faults/test_outside.py"
MAIN, REFUSALS = "tests/test_main.py", "tests/test_refusals.py"
NO_BIT = f"{TRAINING}::test_a_damaged_newest_step_costs_time_and_no_bit"
STOPPED = f"{TRAINING}::test_a_stop_signal_saves_the_step_reached_and_the_rerun_loses_nothing"
EDITED = f"{TRAINING}::test_a_config_file_edited_to_match_does_not_hide_it"
OTHER_DEVICES = f"{TRAINING}::test_a_run_goes_on_on_one_device"
FOR_GOOD = f"{TRAINING}::test_a_run_that_stays_bad_ends_with_the_step_and_the_tensor"
METADATA = "tests/data/test_metadata.py"
WHOLE = "tests/books/test_download.py::test_fault_23_it_comes_whole_in_the_end"


@dataclasses.dataclass(frozen=True)
class Guard:
    """A guard of a fault.

    Attributes:
        fault: its number on the page.
        test: the node of pytest that must fail.
        off: how things are without the guard, in a few words.
        file: where it is, from the package's folder on.
        old, new: the text of it, which the file holds once, and what stands there when it is switched off.
    """

    fault: int
    test: str
    off: str
    file: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.fault:02}: {self.off}"


NAMED_LAST = """\
            write_json(partial / MANIFEST, {"files": hashes(partial)})
            verify(partial)
            if final.exists():
                shutil.rmtree(final)
            os.rename(partial, final)
"""
NAMED_FIRST = """\
            os.rename(partial, final)
            write_json(final / MANIFEST, {"files": hashes(final)})
"""
RENAMED_AWAY = """\
                os.rename(self.folder / str(step), gone)
                shutil.rmtree(gone)
"""
REMOVED = """\
                shutil.rmtree(self.folder / str(step))
"""
AT_ONCE = """\
            if self.signal:
                os._exit(128 + number)
"""
CLOSED = """\
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
"""

# (fault, test): [(what is off, file, old, new), ...].
TABLE: dict[tuple[int, str], list[tuple[str, str, str, str]]] = {
    (1, f"{TRAINING}::test_killed_at_every_stage_of_a_save_and_of_the_end"): [
        ("a step has its name before it is whole", "store/checkpoint.py", NAMED_LAST, NAMED_FIRST),
        ("an old step is removed under its name", "store/checkpoint.py", RENAMED_AWAY, REMOVED),
    ],
    (1, f"{TRAINING}::test_killed_while_it_writes_a_sample_after_a_checkpoint"): [
        ("later rows of metrics stay", "training/metrics.py", 'return raw[: held["bytes"]]', "return raw"),
    ],
    (2, f"{STOPPED}[SIGTERM-143]"): [
        ("signals are not caught", "training/signals.py", "for s in (signal.SIGTERM, signal.SIGINT)}", "for s in ()}"),
        ("no save on a signal", "training/events.py", "if self._saves(step) or stopping:", "if self._saves(step):"),
    ],
    (2, f"{TRAINING}::test_a_second_signal_ends_the_process_at_once"): [
        ("a second signal is as the first", "training/signals.py", AT_ONCE, ""),
    ],
    (3, f"{TRAINING}::test_a_full_disk_is_loud_keeps_the_older_steps_and_the_rerun_loses_nothing"): [
        (
            "a save that fails ends the run",
            "store/checkpoint.py",
            "except Exception as error:  # Orbax and TensorStore",
            "except KeyboardInterrupt as error:  # Orbax and TensorStore",
        ),
    ],
    (3, f"{TRAINING}::test_one_save_that_fails_is_tried_again_and_the_last_one_must_not_fail"): [
        ("the last save may fail", "training/loop.py", "if not self.checkpoints.wait():", "if False:"),
    ],
    (4, f"{TRAINING}::test_a_workdir_that_cannot_be_written_is_refused[a file]"): [
        (
            "a workdir that cannot be written is no mistake",
            "store/claim.py",
            'raise UserError(f"{flag}={workdir}: cannot write there: {error.strerror}") from error',
            "raise",
        ),
    ],
    (4, f"{REFUSALS}::test_main_refuses_at_once[--workdir={{clean}}/config.json]"): [
        ("a workdir is looked at after JAX", "main.py", "        check(workdir, own)\n", ""),
    ],
    (5, f"{NO_BIT}[flipped]"): [
        ("a file's hash is not compared", "store/manifest.py", "if sha256(path) != digest:", "if False:"),
        ("a damaged step stays", "store/checkpoint.py", "os.rename(folder, corrupt)", "pass"),
    ],
    (5, f"{NO_BIT}[stray]"): [
        ("any step in any folder", "store/manifest.py", 'if str(meta.get("step")) != folder.name:', "if False:"),
    ],
    (6, f"{TRAINING}::test_when_every_checkpoint_is_damaged_nothing_begins_afresh"): [
        ("a fresh start", "store/checkpoint.py", 'if any(self.folder.glob("*.corrupt")):', "if False:"),
    ],
    (7, f"{EDITED}[model-width-32-parts0]"): [
        (
            "shapes are not compared",
            "store/checkpoint.py",
            "raise UserError(f\"{folder}: does not fit this config: {'; '.join(changed)}\")",
            "pass",
        ),
    ],
    (7, f"{EDITED}[train-lr-0.5-parts2]"): [
        (
            "the checkpoint's config is not compared",
            "training/loop.py",
            'changed = held(meta["config"], self.config, trained)',
            "changed = []",
        ),
    ],
    (8, f"{TRAINING}::test_another_config_is_refused_with_the_diff[overrides1-parts1]"): [
        (
            "the workdir's config is not compared",
            "store/claim.py",
            "changed = held(config.to_dict(config.read(path)), wanted, trained)",
            "changed = []",
        ),
    ],
    (8, f"{TRAINING}::test_other_training_data_is_refused[same]"): [
        ("any text", "training/loop.py", "if was != self.meta[key] and (trained or was is not None):", "if False:"),
    ],
    (9, OTHER_DEVICES): [
        (
            "another number of devices is another config",
            "store/claim.py",
            'FREE_WITHOUT_DROPOUT = {"train.accumulate", "mesh.data", ',
            'FREE_WITHOUT_DROPOUT = {"train.accumulate", ',
        ),
        ("data begin anew", "training/loop.py", "= first, 0, self._next(first)", "= first, 0, self._next(0)"),
    ],
    (10, f"{TRAINING}::test_a_second_process_is_refused_and_a_killed_holder_is_forgotten"): [
        ("no lock", "store/claim.py", "fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
    ],
    (11, f"{TRAINING}::test_one_bad_step_is_skipped_counted_and_changes_nothing"): [
        (
            "what is not finite is applied",
            "training/step.py",
            'finite = grads_ok & jnp.isfinite(means["loss"]) & jnp.isfinite(grad_norm)',
            "finite = jnp.bool_(True)",
        ),
    ],
    (11, FOR_GOOD): [
        ("bad steps for ever", "training/events.py", 'if values["bad_in_row"] >= train.max_bad_steps:', "if False:"),
        (
            "the tensor is not named",
            "training/step.py",
            "bad_leaf = jnp.where(grads_ok, -1, jnp.argmin(leaf_ok))",
            "bad_leaf = jnp.int32(-1)",
        ),
    ],
    (12, f"{TRAINING}::test_the_loss_scale_of_f16_is_in_the_checkpoint_and_halves_on_overflow"): [
        (
            "the scale is not saved",
            "training/state.py",
            'SCALARS = ("step", "scale", "good", "bad_in_row", "skipped")',
            'SCALARS = ("step", "good", "bad_in_row", "skipped")',
        ),
        ("the scale does not halve", "training/step.py", "jnp.maximum(scale / 2, 1.0)", "scale"),
    ],
    (13, f"{OUTSIDE}::test_a_malformed_row_is_named_with_its_file_and_line"): [
        (
            "a line that is no JSON is a row",
            "ground/rows.py",
            'raise Bad(f"not JSON: {what[:80]}") from error',
            'return {"text": what}',
        ),
    ],
    (13, f"{METADATA}::test_fault_13_is_refused_with_file_line_and_reason[duplicate key]"): [
        ("a key may stand twice", "ground/rows.py", "if len(row) < len(pairs):", "if False:"),
    ],
    (13, f"{METADATA}::test_skipping_stops_over_the_cap"): [
        ("no cap", "data/metadata.py", "if len(bad) > data.max_bad * count:", "if False:"),
    ],
    (14, f"{TRAINING}::test_bad_text_is_refused_in_one_line"): [
        ("any text is enough", "data/corpus.py", "if len(tokens) < context + 1:", "if False:"),
    ],
    (15, f"{TRAINING}::test_bad_text_is_refused_in_one_line"): [
        ("bytes that are no text are replaced unasked", "ground/texts.py", 'if errors == "strict":', "if False:"),
    ],
    (15, "tests/data/test_corpus.py::test_fault_15_replaced_and_counted"): [
        ("replaced and not counted", "ground/texts.py", 'text.count("\\ufffd") - own, encoding)', "0, encoding)"),
    ],
    (16, f"{MAIN}::test_generate_names_unknown_characters_or_skips_them"): [
        ("left out unasked", "data/folding.py", "lacking = tokenizer.unknown(text)", 'lacking, unknown = "", "skip"'),
    ],
    (16, "tests/data/test_chat.py::test_what_a_message_says_is_text"): [
        (
            "a special token in a message is one",
            "data/chat.py",
            "broken = lambda text: names.sub(lambda m: m[0][0] + between + m[0][1:], text)",
            "broken = lambda text: text",
        ),
    ],
    (17, f"{REFUSALS}::test_main_refuses_at_once[--config.train.stepz=1]"): [
        (
            "JAX first",
            "main.py",
            "    begun = time.perf_counter()\n",
            "    begun = time.perf_counter()\n    import jax\n",
        ),
        ("no near names", "ground/words.py", "matches = difflib.get_close_matches(name, names, n=3)", "matches = []"),
    ],
    (18, "tests/data/test_corpus.py::test_fault_18_token_files"): [
        ("any id is read", "data/corpus.py", "if len(tokens) and int(tokens.max()) >= vocab:", "if False:"),
    ],
    (18, f"{TRAINING}::test_a_damaged_token_cache_is_reported_and_made_again"): [
        (
            "a damaged cache ends the run",
            "data/corpus.py",
            'print(f"warning: cached corpus refused and made again: {error}", file=sys.stderr)',
            "raise StorageError(str(error)) from error",
        ),
    ],
    (19, f"{OUTSIDE}::test_a_passage_of_both_sides_is_refused_over_the_limit"): [
        ("no limit", "data/corpus.py", "if corpus.leaks.share > data.max_leak:", "if False:"),
    ],
    (19, "tests/data/test_leaks.py::test_nearly_the_same_passage"): [
        ("near copies do not count", "data/leaks.py", "(found >= NEAR * total) & near", "(found > total) & near"),
    ],
    (20, f"{OUTSIDE}::test_a_batch_too_large_says_its_size_and_the_last_checkpoint_stays"): [
        (
            "the sizes are not said",
            "training/run.py",
            "if not memory.ran_out(error):",
            "if True:",
        ),
    ],
    (21, f"{MAIN}::test_generate_past_the_context_says_so_or_is_strict"): [
        ("--strict is as without", "generate.py", 'raise UserError(f"--strict: {says}")', "pass"),
        ("a text past the context is not said", "generate.py", "longest + options.max_new_tokens > context:", "False:"),
    ],
    (21, "tests/inference/test_generate.py::test_greedy_text_past_the_context[1]"): [
        ("written past the cache", "inference/window.py", "(np.inf if self.evict else self.slots)", "np.inf"),
    ],
    (22, f"{OUTSIDE}::test_an_archive_that_leads_out_is_refused[../a.txt]"): [
        ("names that lead up", "books/archives.py", ' or ".." in path.split("/"):', ":"),
    ],
    (22, f"{OUTSIDE}::test_a_bomb_is_refused_and_memory_stays_flat"): [
        ("a member is read whole", "books/archives.py", "content = stream.read(limit + 1)", "content = stream.read()"),
    ],
    (22, "tests/books/test_parsers.py::test_fault_22_a_link_in_an_archive"): [
        ("links in an archive", "books/archives.py", "    if link:\n", "    if False:\n"),
    ],
    (
        22,
        "tests/store/test_checkpoint.py"
        "::test_a_manifest_that_points_outside_its_folder_is_refused_before_anything_is_opened[../secret]",
    ): [
        (
            "a manifest names what it likes",
            "store/manifest.py",
            'raise Damaged(f"{MANIFEST} names {name!r}, outside the folder")',
            "pass",
        ),
    ],
    (23, f"{OUTSIDE}::test_a_download_that_is_not_the_file_leaves_nothing[half-4]"): [
        (
            "what came is taken",
            "books/download.py",
            "if size == work.source_bytes and sha256(part) == work.source_sha256:",
            "if True:",
        ),
    ],
    (23, WHOLE): [
        (
            "the hash is not compared",
            "books/download.py",
            "if size == work.source_bytes and sha256(part) == work.source_sha256:",
            "if size == work.source_bytes:",
        ),
        ("one try", "books/download.py", "for attempt in range(tries):", "for attempt in range(1):"),
        ("each try begins anew", "books/download.py", "    if begin:\n", "    if False:\n"),
        ("a stall is waited for", "books/download.py", "urlopen(request, timeout=timeout)", "urlopen(request)"),
    ],
    (24, f"{OUTSIDE}::test_a_run_compiles_its_step_once"): [
        ("the step is compiled at each call", "training/loop.py", "if count not in functions:", "if True:"),
        ("a batch that is not full stays so", "inference/scoring.py", "missing = batch - len(y)", "missing = 0"),
    ],
    (25, f"{MAIN}::test_a_stdout_that_takes_nothing_ends_no_run[closed]"): [
        ("no stdout", "ground/command.py", CLOSED, ""),
    ],
    (25, f"{MAIN}::test_a_stdout_that_takes_nothing_ends_no_run[broken]"): [
        ("a reader that left", "ground/command.py", "if isinstance(error, BrokenPipeError):", "if False:"),
    ],
    (25, f"{MAIN}::test_another_folder_a_plain_locale_and_a_path_beyond_ascii"): [
        (
            "letters that a terminal lacks",
            "ground/command.py",
            '"backslashreplace", line_buffering',
            '"strict", line_buffering',
        ),
    ],
    (26, f"{OUTSIDE}::test_a_cell_that_fails_leaves_the_others_and_only_it_runs_again"): [
        (
            "a cell that fails ends all",
            "study/runner.py",
            'return True, last_words(job.cells[0].folder / "log.txt", code)',
            "raise StorageError(str(code))",
        ),
        (
            "all cells run again",
            "study/runner.py",
            'wanted = [c for c in self.cells if self._status(c.arm, c.seed) != "done"]',
            "wanted = list(self.cells)",
        ),
    ],
    (27, "tests/training/test_hosts.py::test_a_host_that_is_gone_ends_the_other[0-SIGKILL]"): [
        (
            "all that is said of a lost coordinator is shown",
            "ground/memory.py",
            "if hosts.asked() and code in (HostError",
            "if False and code in (HostError",
        ),
    ],
    (28, f"{OUTSIDE}::test_memory_and_open_files_stay_flat"): [
        ("a folder that is synced stays open", "ground/files.py", "        os.close(handle)\n", "        pass\n"),
    ],
}
GUARDS = [Guard(fault, test, *switch) for (fault, test), switches in TABLE.items() for switch in switches]
