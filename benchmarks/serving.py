"""How fast are answers, and how varied are lists?

    python benchmarks/serving.py start RUN
    python benchmarks/serving.py http RUN [--rate 100] [--seconds 20]
    python benchmarks/serving.py all RUN [--users 2000 4000 8000]
    python benchmarks/serving.py page RUN
    python benchmarks/serving.py lists --data FOLDER [--seeds 1]

RUN is the folder of a run of preset `hierarchical`. `http` starts `hierfed serve` in a process of its own, asks at a
steady rate from another one; it stops by itself. `all` gives generated users files of their own, in a copy of the run.
`page` needs a Chromium. `lists` trains on four fifths of each user's ratings, and judges each order of lists on the
rest. All run on the machine's cores as they are; say what else runs there.
"""

import argparse
import gzip
import http.client
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def quantiles(milliseconds: list[float]) -> str:
    """Median, 99th percentile and most."""
    ranked = sorted(milliseconds)
    high = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    return f"median {statistics.median(ranked):.1f} ms, p99 {high:.1f} ms, most {ranked[-1]:.1f} ms, n {len(ranked)}"


def start(run: Path) -> None:
    """Seconds to import, and to load a run and make the first list; each in a process of its own, warm."""
    first = f"import hierfed; hierfed.load({str(run)!r}).recommend(ratings={{}}, k=10)"
    for name, code in (("import hierfed", "import hierfed"), ("import torch", "import torch"), ("load + list", first)):
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - began)
        print(f"{name}: {min(seconds):.2f} s (best of 5, whole process)")
    import hierfed

    hierfed.load(run).recommend(ratings={}, k=10)
    began = time.perf_counter()
    hierfed.load(run).recommend(ratings={}, k=10)
    print(f"load + list, packages loaded: {time.perf_counter() - began:.2f} s")


def serve_and_ask(run: Path, rate: float, seconds: float) -> None:
    """Requests of known users at a steady rate, then new users with 20 ratings one after the other."""
    from hierfed.runs.private_files import all_users

    port, users = 8765, all_users(run)
    process = subprocess.Popen(
        [sys.executable, "-m", "hierfed", "serve", str(run), "--port", str(port), "--rate", "100000"],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        for label in ("first answers", "answers again"):
            spent, failed = _steady(port, users, rate, seconds)
            print(f"known users at {rate:g}/s, {label}: {quantiles(spent)}; failed {failed}")
        ids = json.loads(_ask(port, "GET", "/items?search=e&k=1000")[1])
        rng, spent = np.random.default_rng(0), []
        for _ in range(100):
            chosen = rng.choice(len(ids), 20, replace=False)
            ratings = {ids[k]["item"]: float(rng.integers(1, 11) / 2) for k in chosen}
            began = time.perf_counter()
            session = json.loads(_ask(port, "POST", "/ratings", {"ratings": ratings})[1])["session"]
            status, _ = _ask(port, "GET", f"/recommendations?session={session}")
            spent.append(1000 * (time.perf_counter() - began))
            assert status == 200
        print(f"new users with 20 ratings, rating and list: {quantiles(spent)}")
    finally:
        process.terminate()
        process.wait()


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


def everyone(run: Path, counts: list[int]) -> None:
    """Lists of all users in batches against a loop of single calls, for generated users of 20 to 200 ratings."""
    import polars as pl
    import torch

    import hierfed
    from hierfed.data.ratings import Ratings
    from hierfed.runs.private_files import PRIVATE, save_private
    from hierfed.serving.recommender import Recommender

    torch.set_num_threads(1)
    served = hierfed.load(run).served
    chance = served.shared.arrays["raters"].numpy() + 0.1
    for count in counts:
        rng = np.random.default_rng(count)
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "run"
            shutil.copytree(run, copy, ignore=shutil.ignore_patterns(PRIVATE, "figures"))
            models = {}
            for node, begin in enumerate(range(0, count, 500)):
                numbers = range(begin, min(begin + 500, count))
                rated = [_drawn(rng, chance) for _ in numbers]
                user = np.repeat(np.array(numbers), [len(each) for each in rated]).astype(np.int32)
                item = np.concatenate(rated).astype(np.int32)
                stars = (rng.integers(1, 11, len(item)) / 2).astype(np.float32)
                models[f"node-{node}"] = served.learn(Ratings(user, item, stars))
            save_private(copy, served.settings.method, models, pl.Series([str(k) for k in range(count)]))
            del models
            model = Recommender(copy)
            names = model.users[:50]
            model.recommend(names[0])
            began = time.perf_counter()
            for name in names:
                model.recommend(name)
            single = (time.perf_counter() - began) / len(names)
            began = time.perf_counter()
            rows = model.recommend_all(10, out=Path(place) / "lists")
            rate = count / (time.perf_counter() - began)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            listed = rows.collect().height
        print(
            f"{count:,} users: {rate:.0f} users/s, {rate * single:.1f} times the loop of single calls "
            f"({1 / single:.0f} users/s), {listed:,} rows, peak memory {memory:.2f} GB"
        )


def _drawn(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    """20 to 200 items of one user, popular ones more often."""
    keys = rng.exponential(size=len(chance)) / chance
    return np.sort(np.argpartition(keys, 200)[: rng.integers(20, 201)])


def in_browser(run: Path) -> None:
    """Milliseconds from a rating to the new list, as the page measures them, and the size of what it loads."""
    from playwright.sync_api import sync_playwright

    from hierfed.page.bundle import DATA, write_page

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        out = Path(place) / "page"
        write_page(run, out)
        packed = len(gzip.compress((out / DATA).read_bytes()))
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        began = time.perf_counter()
        page.goto((out / "index.html").as_uri())
        page.wait_for_selector("body[data-ready]")
        loaded = time.perf_counter() - began
        spent, words = (
            [],
            ("toy story", "pulp fiction", "matrix", "fargo", "alien", "shining", "jaws", "heat", "up", "her"),
        )
        for number, word in enumerate(words):
            page.fill("#search", word)
            page.locator("#found select").first.select_option(index=1 + number % 5)
            spent.append(float(page.evaluate("document.body.dataset.milliseconds")))
        browser.close()
    print(f"data {packed / 1e6:.2f} MB gzipped; loaded and first list {loaded:.2f} s")
    print(f"list after a rating: first three {spent[:3]} ms; {quantiles(spent)}")


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
    for name in ("start", "http", "all", "page"):
        commands.add_parser(name).add_argument("run", type=Path)
    commands.choices["http"].add_argument("--rate", type=float, default=100.0)
    commands.choices["http"].add_argument("--seconds", type=float, default=20.0)
    commands.choices["all"].add_argument("--users", type=int, nargs="+", default=[2000, 4000, 8000])
    chosen = commands.add_parser("lists")
    chosen.add_argument("--data", required=True)
    chosen.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    if asked.command == "start":
        start(asked.run)
    elif asked.command == "http":
        serve_and_ask(asked.run, asked.rate, asked.seconds)
    elif asked.command == "all":
        everyone(asked.run, asked.users)
    elif asked.command == "page":
        in_browser(asked.run)
    else:
        lists(asked.data, asked.seeds)


if __name__ == "__main__":
    main()
