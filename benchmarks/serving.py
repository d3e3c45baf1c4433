"""How fast are answers, and how varied are lists?

    python benchmarks/serving.py start RUN
    python benchmarks/serving.py first RUN
    python benchmarks/serving.py http RUN [--rate 100] [--seconds 20]
    python benchmarks/serving.py all RUN [--users 2000 8000 162000] [--place FOLDER]
    python benchmarks/serving.py page RUN
    python benchmarks/serving.py lists --data FOLDER [--seeds 1]

RUN is the folder of a run of preset `hierarchical`. `http` starts `hierfed serve` in a process of its own, asks at a
steady rate from another one; it stops by itself. `first` makes each user's first list in one process. `all` gives
generated users files of their own, in a copy of the run, of which `lists-of` is measured. `page` needs a Chromium.
`lists` trains on four fifths of each user's ratings, and judges each order of lists on the rest. All run on the
machine's cores as they are; say what else runs there.
"""

import argparse
import gzip
import http.client
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

OF_A_NODE = 500
# Whatever starts a list without torch loads these.
OTHERS = (
    "import numpy, polars, pydantic, rich.console, safetensors.numpy, scipy.linalg, scipy.sparse, scipy.special, typer;"
    "import hierfed.cli, hierfed.settings"
)


def quantiles(milliseconds: list[float]) -> str:
    """Median, 99th percentile and most."""
    ranked = sorted(milliseconds)
    high = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    return f"median {statistics.median(ranked):.1f} ms, p99 {high:.1f} ms, most {ranked[-1]:.1f} ms, n {len(ranked)}"


def start(run: Path) -> None:
    """Seconds to import, and to load a run and make the first list; each in a process of its own, warm."""
    first = f"import hierfed; hierfed.load({str(run)!r}).recommend(ratings={{}}, k=10)"
    commands = {name: ["-c", name] for name in ("import hierfed", "import torch")} | {"load + list": ["-c", first]}
    commands["import the other packages"] = ["-c", OTHERS]
    commands["hierfed recommend"] = ["-m", "hierfed", "recommend", str(run), "--user", "1"]
    for name, words in commands.items():
        seconds, cpu = [], []
        for _ in range(3):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(time.perf_counter() - began)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{name}: {min(seconds):.2f} s, {min(cpu):.2f} CPU s (best of 3, whole process)")
    import hierfed

    hierfed.load(run).recommend(ratings={}, k=10)
    began = time.perf_counter()
    hierfed.load(run).recommend(ratings={}, k=10)
    print(f"load + list, packages loaded: {time.perf_counter() - began:.2f} s")


def first_lists(run: Path) -> None:
    """CPU milliseconds of the first list of each user, without HTTP and reasons, and by users' numbers of ratings."""
    import torch

    import hierfed

    torch.set_num_threads(1)
    model, spent = hierfed.load(run), []
    model.recommend("", k=1)
    for user in model.users:
        began = time.process_time()
        model.recommend(user, k=10, why=False)
        spent.append((1000 * (time.process_time() - began), len(model.served.user(user).own)))
    print(
        f"first lists, mean {statistics.mean(each for each, _ in spent):.1f} CPU ms; {quantiles([s[0] for s in spent])}"
    )
    for low, high in ((0, 50), (50, 200), (200, 500), (500, 1000), (1000, 10**9)):
        some = [each for each, own in spent if low <= own < high]
        if some:
            print(f"    users of {low} ratings and more: mean {statistics.mean(some):.1f} CPU ms, n {len(some)}")


def serve_and_ask(run: Path, rate: float, seconds: float) -> None:
    """Requests of known users at a steady rate, also while models are swapped, then new users with 20 ratings each."""
    from hierfed.runs.models import MODEL
    from hierfed.runs.private_files import all_users

    port, users = 8765, all_users(run)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "run"
        shutil.copytree(run, copy)
        process = subprocess.Popen(
            [sys.executable, "-m", "hierfed", "serve", str(copy), "--port", str(port), "--rate", "100000"],
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(port)
            for label, swaps in (("first answers", False), ("answers again", False), ("models swapped", True)):
                stop = threading.Event()
                swapper = threading.Thread(target=_swap, args=(copy / MODEL, stop))
                if swaps:
                    swapper.start()
                cpu = _cpu_seconds(process.pid)
                spent, failed = _steady(port, users, rate, seconds)
                cpu = 1000 * (_cpu_seconds(process.pid) - cpu) / len(spent)
                stop.set()
                if swaps:
                    swapper.join()
                    metrics = _ask(port, "GET", "/metrics")[1].decode().splitlines()
                    print("; ".join(line for line in metrics if line.startswith("hierfed_swap")))
                print(f"known users at {rate:g}/s, {label}: {quantiles(spent)}; failed {failed}; {cpu:.1f} CPU ms each")
            ids, rng, spent = json.loads(_ask(port, "GET", "/items?search=e&k=1000")[1]), np.random.default_rng(0), []
            cpu = _cpu_seconds(process.pid)
            for _ in range(100):
                chosen = rng.choice(len(ids), 20, replace=False)
                ratings = {ids[k]["item"]: float(rng.integers(1, 11) / 2) for k in chosen}
                began = time.perf_counter()
                session = json.loads(_ask(port, "POST", "/ratings", {"ratings": ratings})[1])["session"]
                status, _ = _ask(port, "GET", f"/recommendations?session={session}")
                spent.append(1000 * (time.perf_counter() - began))
                assert status == 200
            cpu = 1000 * (_cpu_seconds(process.pid) - cpu) / len(spent)
            print(f"new users with 20 ratings, rating and list: {quantiles(spent)}; {cpu:.1f} CPU ms each")
        finally:
            process.terminate()
            process.wait()


def _swap(model: Path, stop: threading.Event) -> None:
    """A newer model every two seconds: the same one, written again."""
    while not stop.wait(2):
        newer = model.with_suffix(".newer")
        shutil.copyfile(model, newer)
        newer.replace(model)


def _cpu_seconds(process: int) -> float:
    """Of a process of Linux, of all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            if _ask(port, "GET", "/healthz")[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service did not start within a minute")


def _steady(port: int, users: list[str], rate: float, seconds: float, clients: int = 8) -> tuple[list[float], int]:
    """Milliseconds of each request from the moment when it was due, and how many failed."""
    spent: list[float] = []
    failed, begin, count = [0], time.perf_counter() + 0.2, int(rate * seconds)

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for place in range(number, count, clients):
            due = begin + place / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("GET", f"/recommendations?user={users[place % len(users)]}&k=10")
            answer = connection.getresponse()
            answer.read()
            spent.append(1000 * (time.perf_counter() - due))
            failed[0] += answer.status != 200

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent, failed[0]


class GeneratedUsers(Mapping):
    """Models of generated users by node's name, made as they are asked for: 500 a node, 20 to 200 ratings each."""

    def __init__(self, served, count: int):
        self.served, self.count = served, count
        self.chance = served.shared.arrays["raters"].numpy() + 0.1

    def __len__(self) -> int:
        return (self.count + OF_A_NODE - 1) // OF_A_NODE

    def __iter__(self):
        return (f"node-{node}" for node in range(len(self)))

    def __getitem__(self, name: str):
        from hierfed.data.ratings import Ratings

        node = int(name.removeprefix("node-"))
        rng = np.random.default_rng(node)
        numbers = np.arange(node * OF_A_NODE, min((node + 1) * OF_A_NODE, self.count))
        rated = [_drawn(rng, self.chance) for _ in numbers]
        user = np.repeat(numbers, [len(each) for each in rated]).astype(np.int32)
        item = np.concatenate(rated).astype(np.int32)
        return self.served.learn(Ratings(user, item, (rng.integers(1, 11, len(item)) / 2).astype(np.float32)))


def everyone(run: Path, counts: list[int], place: Path | None) -> None:
    """Lists of all users in batches against a loop of single calls, for generated users; each in its own process."""
    import polars as pl

    import hierfed
    from hierfed.data.federation import RowsByNode
    from hierfed.data.ratings import Ratings
    from hierfed.runs.private_files import PRIVATE, save_private

    served = hierfed.load(run).served
    for count in counts:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            copy = Path(folder) / "run"
            shutil.copytree(run, copy, ignore=shutil.ignore_patterns(PRIVATE, "figures"))
            nothing = Ratings(*(np.empty(0, kind) for kind in (np.int32, np.int32, np.float32)))
            held = RowsByNode(nothing, np.zeros(count + 1, np.int64))
            ids = pl.Series([str(number) for number in range(count)])
            save_private(copy, served.settings.method, GeneratedUsers(served, count), ids, held)
            subprocess.run([sys.executable, __file__, "lists-of", str(copy)], check=True)


def lists_of_all(copy: Path) -> None:
    """Of one run: all lists at once, and single calls."""
    import torch

    import hierfed

    torch.set_num_threads(1)
    model = hierfed.load(copy)
    model.recommend(ratings={}, k=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=copy) as folder:
        rows = model.recommend_all(10, out=Path(folder) / "lists")
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        users, listed = rows.collect()["user"].n_unique(), rows.collect().height
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    single = []
    for why in (True, False):
        names = [str(number) for number in range(0, users, max(users // 200, 1))][:200]
        spent = time.process_time()
        for name in names:
            model.recommend(name, why=why)
        single.append((time.process_time() - spent) / len(names))
    each = cpu / users
    print(f"{users:,} users: {users / wall:,.0f} a second, {1 / each:,.0f} a CPU second; {listed:,} rows")
    for name, seconds in zip(("", ", without reasons"), single, strict=True):
        print(f"    {seconds / each:.1f} times a loop of single calls{name}: {1 / seconds:.0f} users a CPU second")
    print(f"    peak memory {memory:.2f} GB; {before:.2f} before")


def _drawn(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    """20 to 200 items of one user, popular ones more often."""
    keys = rng.exponential(size=len(chance)) / chance
    return np.sort(np.argpartition(keys, 200)[: rng.integers(20, 201)])


WORDS = ("toy story", "pulp fiction", "matrix", "fargo", "alien", "shining", "jaws", "heat", "up", "her")
# From the click to the moment after the next frame was painted.
LISTEN = """() => { window.spent = []; addEventListener("change", event => requestAnimationFrame(() => setTimeout(() =>
spent.push(performance.now() - event.timeStamp))), true); }"""


CHOOSE = """(chooser, place) => { chooser.selectedIndex = place;
chooser.dispatchEvent(new Event("change", {bubbles: true})); }"""


def _thread_seconds(tools) -> float:
    """The CPU seconds that the page's thread has spent: script, layout and painting."""
    found = tools.send("Performance.getMetrics")["metrics"]
    return next(each["value"] for each in found if each["name"] == "TaskDuration")


def in_browser(run: Path) -> None:
    """Milliseconds from a click to the new list on the screen, by the clock and of CPU, and the size of the data."""
    from playwright.sync_api import sync_playwright

    from hierfed.page.bundle import DATA, write_page

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        out = Path(place) / "page"
        write_page(run, out)
        packed = len(gzip.compress((out / DATA).read_bytes()))
        ids = json.loads((out / DATA).read_text().removeprefix("var HIERFED_DATA = ").rstrip().rstrip(";"))["ids"]
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for known in (0, 100, 380):
            page = browser.new_context().new_page()
            began = time.perf_counter()
            page.goto((out / "index.html").as_uri())
            page.wait_for_selector("body[data-ready]")
            loaded = time.perf_counter() - began
            if not known:
                print(f"data {packed / 1e6:.2f} MB gzipped; loaded and first list {loaded:.2f} s")
            else:
                rng = np.random.default_rng(known)
                ratings = {each: float(rng.integers(1, 11)) / 2 for each in rng.choice(ids, known, replace=False)}
                file = {"name": "r.json", "mimeType": "application/json", "buffer": json.dumps(ratings).encode()}
                page.set_input_files("#import", [file])
                page.wait_for_selector(f"#own li:nth-child({known})")
            page.evaluate(LISTEN)
            # So long as somebody needs to find the box and type a word.
            page.wait_for_timeout(1500)
            tools, cpu = page.context.new_cdp_session(page), []
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            for number, word in enumerate(WORDS):
                page.fill("#search", word)
                page.wait_for_timeout(400)
                chooser, before = page.locator("#found select").first.element_handle(), _thread_seconds(tools)
                chooser.evaluate(CHOOSE, 1 + number % 5)
                page.wait_for_timeout(600)
                cpu.append(1000 * (_thread_seconds(tools) - before))
            painted = page.evaluate("spent")
            print(f"with {known} ratings, click to painted list: first {painted[0]:.1f} ms; {quantiles(painted)}")
            print(f"    CPU of the page's thread: first {cpu[0]:.1f} ms; {quantiles(cpu)}")
        browser.close()


def lists(data: str, seeds: int) -> None:
    """Accuracy against diversity of lists of 10 for each order, on held-out ratings."""
    import torch

    from hierfed.data.features import genre_flags
    from hierfed.evaluation.diversity import diversity
    from hierfed.evaluation.ranking import judge_ranking
    from hierfed.experiment import run_experiment
    from hierfed.models.lists import exclude, rated_matrix, top
    from hierfed.settings import load_settings

    rows: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(seeds):
        asked = {"data.source": data, "protocol": "warm", "seed": seed}
        outcome = run_experiment(load_settings("hierarchical", asked))
        ratings, split = outcome.dataset.ratings, outcome.split
        own, test = ratings.take(split.personal_train), ratings.take(split.personal_test)
        users, items = outcome.dataset.users, outcome.dataset.items
        scorers = outcome.method.scorers(outcome.tuned, outcome.models, outcome.personal_models, own)
        found = judge_ranking(scorers, own, test, items)
        seen = torch.from_numpy(rated_matrix(own, users, items).toarray() > 0)
        flags, _ = genre_flags(outcome.dataset.catalogue)
        genres = flags / np.maximum(flags.sum(1, keepdims=True), 1)
        for name, scorer in scorers.items():
            best = top(exclude(scorer(torch.arange(users)), seen), 10)
            again = int(seen.gather(1, best).sum())
            told, varied = found[name], diversity(best.numpy(), seen.numpy(), genres)
            row = (told.ndcg_at_10, told.recall_at_20, varied.coverage, varied.novelty, varied.gini)
            rows.setdefault(name, []).append((*row, varied.miscalibration, again))
    print("| order | NDCG@10 | Recall@20 | coverage | novelty, bits | Gini | miscalibration | seen items |")
    print("|---|---|---|---|---|---|---|---|")
    for name, each in rows.items():
        mean = np.mean(each, 0)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in mean[:-1]) + f" | {mean[-1]:.0f} |")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "first", "http", "all", "lists-of", "page"):
        commands.add_parser(name).add_argument("run", type=Path)
    commands.choices["http"].add_argument("--rate", type=float, default=100.0)
    commands.choices["http"].add_argument("--seconds", type=float, default=20.0)
    commands.choices["all"].add_argument("--users", type=int, nargs="+", default=[2000, 8000, 162_000])
    commands.choices["all"].add_argument("--place", type=Path, help="for the copy: 4 GB for 162,000 users")
    chosen = commands.add_parser("lists")
    chosen.add_argument("--data", required=True)
    chosen.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    if asked.command == "start":
        start(asked.run)
    elif asked.command == "first":
        first_lists(asked.run)
    elif asked.command == "http":
        serve_and_ask(asked.run, asked.rate, asked.seconds)
    elif asked.command == "all":
        everyone(asked.run, asked.users, asked.place)
    elif asked.command == "lists-of":
        lists_of_all(asked.run)
    elif asked.command == "page":
        in_browser(asked.run)
    else:
        lists(asked.data, asked.seeds)


if __name__ == "__main__":
    main()
