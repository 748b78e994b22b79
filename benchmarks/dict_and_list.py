"""The controller as it is plainly written: dicts, lists, and a loop over every row.

What `benchmarks/controller.py` measures ours against, and what tests/core/test_dict_and_list.py
shows to give the same plans where both are defined. Discounting, fitted priors, metrics and
checkpoints are left out; so is splitting a bin, so a budget that no whole counts meet has no plan.
"""

import heapq
import math
from collections.abc import Hashable, Mapping, Sequence


class DictAndList:
    """Bins by posterior pass@8, exponential weights, and `hard_first` or the bandit with its DP.

    Args:
        allocator: "hard_first", or "exp3p" with its argmax over all joint choices of arms.
        n_mean: Mean rollouts a prompt.
        n_min: Fewest rollouts.
        n_max: Most.
        rate_of: Pass rate of each prompt known beforehand, four pseudo-rollouts each.
        utility: Starting utility of each (bin, n), for exp3p.
        bins: B.
    """

    k, delta, strength = 8, 0.03, 4.0
    eta, beta, cap, power = 2.0, 0.12, 15.0, 2.0
    bandit_eta, bandit_beta, bandit_gamma, price_alpha = 0.65, 0.12, 0.01, 0.05

    def __init__(
        self,
        allocator: str,
        n_mean: int,
        n_min: int,
        n_max: int,
        rate_of: Mapping[Hashable, float],
        utility: Mapping[tuple[int, int], float],
        bins: int = 10,
    ) -> None:
        self.allocator, self.n_mean, self.n_min, self.n_max = allocator, n_mean, n_min, n_max
        self.bins, self.utility, self.price = bins, dict(utility), 0.25 / n_mean**2
        self.start_price = self.price
        self.counts: dict[Hashable, tuple[int, int]] = {}
        self.score: dict[int, float] = {}
        self.rate_of = rate_of
        self.bin_of = {prompt: self.nearest(self.pass_at_k(prompt)) for prompt in rate_of}

    # --- difficulty

    def posterior(self, prompt: Hashable) -> tuple[float, float]:
        a = b = 1.0
        if prompt in self.rate_of:
            a += self.strength * self.rate_of[prompt]
            b += self.strength * (1 - self.rate_of[prompt])
        n, correct = self.counts.get(prompt, (0, 0))
        return a + correct, b + n - correct

    def pass_at_k(self, prompt: Hashable) -> float:
        a, b = self.posterior(prompt)
        fail = 1.0
        for i in range(self.k):
            fail *= (b + i) / (a + b + i)
        return 1 - fail

    def nearest(self, estimate: float) -> int:
        return min(max(math.floor(estimate * self.bins), 0), self.bins - 1)

    def rebin(self, prompt: Hashable) -> None:
        estimate = self.pass_at_k(prompt)
        lowest, highest = self.nearest(estimate - self.delta), self.nearest(estimate + self.delta)
        old = self.bin_of.get(prompt)
        if old is None:
            self.bin_of[prompt] = self.nearest(estimate)
        else:
            self.bin_of[prompt] = min(max(old, lowest), highest)

    # --- a step

    def plan(self, prompts: Sequence[Hashable]) -> tuple[list[int], list[float]]:
        """Rollouts and weight of each prompt."""
        if self.allocator == "hard_first":
            counts = self.hard_first(prompts)
        else:
            counts = self.whole_arms(prompts)
        return counts, self.weights(prompts, counts)

    def observe(self, prompt_R: Sequence[Hashable], correct_R: Sequence[bool]) -> None:
        """Learns from the prompt and the 0/1 of every rollout."""
        marks_of: dict[Hashable, list[bool]] = {}
        for prompt, correct in zip(prompt_R, correct_R, strict=True):
            marks_of.setdefault(prompt, []).append(correct)
        errors: dict[int, list[float]] = {}
        groups: dict[int, dict[int, list[float]]] = {}
        for prompt, marks in marks_of.items():
            n, correct = len(marks), sum(marks)
            b = self.bin_of.get(prompt)
            old_n, old_correct = self.counts.get(prompt, (0, 0))
            self.counts[prompt] = (old_n + n, old_correct + correct)
            self.rebin(prompt)
            if b is not None:
                errors.setdefault(b, []).append(1 - correct / n)
                mixed = float(0 < correct < n)
                groups.setdefault(b, {}).setdefault(n, []).append(mixed)
        for b, losses in errors.items():
            mean = sum(losses) / len(losses)
            old = self.score.get(b, mean)
            self.score[b] = old + self.beta * (mean - old)
        if self.allocator == "exp3p":
            self.learn(groups)

    def weights(self, prompts: Sequence[Hashable], counts: Sequence[int]) -> list[float]:
        """exp(eta S) of the prompt's bin, of mean 1 over rollouts under the cap."""
        units: dict[int, int] = {}
        for prompt, n in zip(prompts, counts, strict=True):
            b = self.bin_of.get(prompt)
            if b in self.score:
                units[b] = units.get(b, 0) + n
        omega = {b: math.exp(self.eta * self.score[b]) for b in units}
        capped: set[int] = set()
        while omega:
            left = sum(units.values()) - self.cap * sum(units[b] for b in capped)
            free = sum(units[b] * omega[b] for b in omega if b not in capped)
            weight = {b: self.cap if b in capped else left / free * omega[b] for b in omega}
            over = {b for b in weight if weight[b] > self.cap}
            if not over:
                break
            capped |= over
        return [weight[b] if (b := self.bin_of.get(p)) in omega else 1.0 for p in prompts]

    # --- counts

    def hard_first(self, prompts: Sequence[Hashable]) -> list[int]:
        """The rollouts that lower sum (1 - p)^(2 power) / n most, one by one."""
        counts, heap = [], []
        for i, prompt in enumerate(prompts):
            seen = prompt in self.bin_of
            counts.append(self.n_min if seen else self.n_mean)
            if seen and self.n_min < self.n_max:
                a, b = self.posterior(prompt)
                cost = (b / (a + b)) ** (2 * self.power)
                heap.append((-cost / (self.n_min * (self.n_min + 1)), i, cost))
        heapq.heapify(heap)
        for _ in range(self.n_mean * len(prompts) - sum(counts)):
            _, i, cost = heap[0]
            n = counts[i] = counts[i] + 1
            if n < self.n_max:
                heapq.heapreplace(heap, (-cost / (n * (n + 1)), i, cost))
            else:
                heapq.heappop(heap)
        return counts

    def whole_arms(self, prompts: Sequence[Hashable]) -> list[int]:
        """The most probable joint choice of one count a bin that meets the budget."""
        size: dict[int, int] = {}
        for prompt in prompts:
            b = self.bin_of.get(prompt)
            if b is not None:
                size[b] = size.get(b, 0) + 1
        budget = self.n_mean * sum(size.values())
        arms = range(self.n_min, self.n_max + 1)
        table: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
        for b in size:
            log_p = self.log_probability(b)
            longer: dict[int, tuple[float, list[int]]] = {}
            for total, (value, choice) in table.items():
                for n in arms:
                    reached = total + size[b] * n
                    if reached > budget:
                        break
                    better = value + log_p[n]
                    if reached not in longer or better > longer[reached][0]:
                        longer[reached] = (better, [*choice, n])
            table = longer
        if budget not in table:
            raise ValueError(f"no whole counts sum to {budget}")
        count = dict(zip(size, table[budget][1], strict=True))
        return [count.get(self.bin_of.get(prompt), self.n_mean) for prompt in prompts]  # type: ignore[arg-type]

    def log_probability(self, b: int) -> dict[int, float]:
        arms = range(self.n_min, self.n_max + 1)
        score = {n: self.bandit_eta * (self.utility[b, n] - self.price * n) for n in arms}
        top = max(score.values())
        total = sum(math.exp(s - top) for s in score.values())
        floor = self.bandit_gamma / len(arms)
        return {
            n: math.log((1 - self.bandit_gamma) * math.exp(score[n] - top) / total + floor)
            for n in arms
        }

    def learn(self, groups: Mapping[int, Mapping[int, list[float]]]) -> None:
        demand = prompts = 0.0
        for b, by_n in groups.items():
            size = sum(len(mixed) for mixed in by_n.values())
            for n, mixed in by_n.items():
                rate = self.bandit_beta * len(mixed) / size
                found = sum(mixed) / len(mixed)
                self.utility[b, n] += rate * (found - self.utility[b, n])
            arms = range(self.n_min, self.n_max + 1)
            demand += size * max(arms, key=lambda n: self.utility[b, n] - self.price * n)
            prompts += size
        if prompts:
            moved = self.price_alpha * (demand / prompts - self.n_mean) / self.n_mean
            reach = math.exp(8.0)
            self.price = min(max(self.price * math.exp(moved), self.start_price / reach),
                             self.start_price * reach)  # fmt: skip
