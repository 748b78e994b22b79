"""What the theory speaks of (paper 4; method section 5).

Values of the game (`robust_value`, `entropy`, `lead_lag`), the two players for whom regret bounds
are proved (`Hedge`, `CumulativeExp3P`), and the bounds with their constants. `make theory` measures
each of them against its bound.

The adversary and the bandit that train a model keep moving averages; the players here keep sums.
That is what their bounds need, and what a task that changes while it is learnt does not. They are
for measuring: feed them the losses of a run, and compare.

Here an axis `_S` is of games played side by side, `_T` of rounds. A *gain* is what a player wants
much of; the gain of an adversary is the loss of a bin.
"""

import numpy as np

from gdro.core.types import FloatArray, IntArray
from gdro.core.weigh.entropic import entropic


def entropy(q_B: FloatArray) -> float:
    """-sum q log q in nats; its exponential is the effective support, in bins."""
    held = q_B[q_B > 0]
    return float(-(held * np.log(held)).sum())


def lead_lag(weight_B: FloatArray, share_B: FloatArray) -> float:
    """Mean bin index of the weights minus that of the data (Eq. 32), in bins.

    Negative: the adversary works on harder bins than the data's average.

    Args:
        weight_B: Weights of the bins alone, normalised here.
        share_B: Shares of the bins in the data, normalised here.
    """
    index = np.arange(float(len(weight_B)))
    return float(index @ weight_B / weight_B.sum() - index @ share_B / share_B.sum())


def robust_value(loss_B: FloatArray, eta: float) -> float:
    """R_eta = max_q {q.L + H(q) / eta} = log(sum_b exp(eta L_b)) / eta (Eq. 22-24), eta > 0.

    Attained at `entropic` with a uniform base measure; max L <= R_eta <= max L + log(B)/eta (25).
    """
    top = float(np.max(loss_B))
    return top + float(np.log(np.sum(np.exp(eta * (loss_B - top))))) / eta


def square_root_law(share_B: FloatArray, v_B: FloatArray, n_mean: float) -> FloatArray:
    """n_b = n_mean sqrt(v_b) / sum_j share_j sqrt(v_j), which minimises VarProxy (Eq. 30).

    Args:
        share_B: Shares of the bins, summing to 1.
        v_B: Variances, > 0.
        n_mean: Mean rollouts per prompt: sum_b share_b n_b.
    """
    return n_mean * np.sqrt(v_B) / float(share_B @ np.sqrt(v_B))


def shadow_price(share_B: FloatArray, v_B: FloatArray, n_mean: float) -> float:
    """The multiplier of the budget in Theorem 4.2: what one more mean rollout takes off VarProxy.

    mu = (sum_b share_b sqrt(v_b) / n_mean)^2. At this price `price_form` buys the square-root law.
    """
    return float((share_B @ np.sqrt(v_B) / n_mean) ** 2)


def price_form(variance: FloatArray, price: float) -> FloatArray:
    """n(mu) = sqrt(v / mu), the continuous best response to a shadow price mu > 0 (Eq. 31)."""
    return np.sqrt(variance / price)


class Hedge:
    """Exponential weights on *cumulated* gains in [0, 1], all of which are seen (Hedge).

    q_t is proportional to exp(eta sum_{s < t} gain_s). Freund and Schapire (1997); the bound is
    Theorem 2.2 of Cesa-Bianchi and Lugosi (2006), and holds for every sequence of gains.

    Attributes:
        total_B: float64 [B], cumulated gain of each bin.
        earned: Cumulated q.gain.
        rounds: Gains seen.
    """

    def __init__(self, num_bins: int, eta: float) -> None:
        self.eta = eta
        self.total_B: FloatArray = np.zeros(num_bins)
        self.earned = 0.0
        self.rounds = 0

    @property
    def q_B(self) -> FloatArray:
        """float64 [B], the mixture of the coming round."""
        bins = self.total_B.size
        return entropic(self.total_B, np.full(bins, 1.0 / bins), self.eta)

    def observe(self, gain_B: FloatArray) -> None:
        """Plays the mixture against these gains [B], each in [0, 1]."""
        self.earned += float(self.q_B @ gain_B)
        self.total_B = self.total_B + gain_B
        self.rounds += 1

    @property
    def regret(self) -> float:
        """What the best bin in hindsight has earned more."""
        return float(self.total_B.max()) - self.earned

    @property
    def bound(self) -> float:
        """The bound on the regret after the rounds played."""
        return hedge_bound(self.total_B.size, self.rounds, self.eta)


def hedge_bound(num_bins: int, rounds: int, eta: float) -> float:
    """log(B) / eta + eta T / 8; least, sqrt(T log(B) / 2), at eta = sqrt(8 log(B) / T)."""
    return float(np.log(num_bins) / eta + eta * rounds / 8)


def moving_average_bound(
    num_bins: int, rounds: int, eta: float, beta: float, gamma: float = 0.0
) -> float:
    """What the regret of `Adversary` stays below: entropic, uniform base, losses in [0, 1].

    With S the moving average of the losses L, every round of Eq. 12 and 14 has
    max S - q.S <= H(q) / eta <= log(B) / eta: a constant, as S does not grow. Between S and L
    stands the tracking error. For one bin it telescopes, sum_t (L_t - S_t) = (S_end - S_1) / beta
    <= 1 / beta; for q it does so up to the curvature of R_eta (Hoeffding's lemma; L - S spans at
    most 2): sum_t q_t.(L_t - S_t) >= (R_eta(S_end) - R_eta(S_1)) / beta - eta beta T / 2. Together

        regret <= 1 + (1 - gamma) (T (log(B) / eta + eta beta / 2) + 2 / beta) + gamma T,

    the 1 for the first round, played before there is a score. At fixed rates it is linear in T, and
    the regret is so indeed: what the moving average buys is that it follows bins that change.
    """
    per_round = np.log(num_bins) / eta + eta * beta / 2
    return float(1 + (1 - gamma) * (rounds * per_round + 2 / beta) + gamma * rounds)


class CumulativeExp3P:
    """EXP3.P: a bandit that sees only the gain, in [0, 1], of the arm it drew.

    Each draw is from p = (1 - gamma) softmax(eta G) + gamma / K, where G sums the estimates
    (gain of the arm drawn, 0 for the others, + beta) / p. Rates and bound are those of Theorem 3.2
    of Bubeck and Cesa-Bianchi, "Regret analysis of stochastic and nonstochastic multi-armed bandit
    problems" (2012): with probability 1 - delta the regret is below `exp3p_bound`, even if gains
    depend on what was drawn before.

    Several games, independent of each other, are played side by side: [S] of them.

    Attributes:
        estimate_SK: float64 [S, K], cumulated estimates G.
        earned_S: float64 [S], cumulated gain of the arms drawn.
    """

    def __init__(
        self, arms: int, rounds: int, delta: float, rng: np.random.Generator, games: int = 1
    ) -> None:
        self.eta = 0.95 * float(np.sqrt(np.log(arms) / (rounds * arms)))
        self.gamma = min(1.0, 1.05 * float(np.sqrt(arms * np.log(arms) / rounds)))
        self.beta = float(np.sqrt(np.log(arms / delta) / (rounds * arms)))
        self.estimate_SK: FloatArray = np.zeros((games, arms))
        self.earned_S: FloatArray = np.zeros(games)
        self._rng = rng
        self._p_SK = self.p_SK
        self._arm_S: IntArray = np.zeros(games, np.int64)

    @property
    def p_SK(self) -> FloatArray:
        """float64 [S, K], what the next arms are drawn from."""
        top_S = self.estimate_SK.max(axis=1, keepdims=True)
        p_SK = np.exp(self.eta * (self.estimate_SK - top_S))
        p_SK *= (1 - self.gamma) / p_SK.sum(axis=1, keepdims=True)
        return p_SK + self.gamma / p_SK.shape[1]

    def draw(self) -> IntArray:
        """int64 [S], an arm of each game."""
        self._p_SK = self.p_SK
        ends_SK = np.cumsum(self._p_SK, axis=1)
        lot_S = self._rng.random(len(ends_SK)) * ends_SK[:, -1]
        self._arm_S = np.sum(ends_SK <= lot_S[:, None], axis=1)
        return self._arm_S

    def observe(self, gain_S: FloatArray) -> None:
        """Takes in the gains [S] of the arms last drawn."""
        self.earned_S = self.earned_S + gain_S
        self.estimate_SK += self.beta / self._p_SK
        game = np.arange(len(gain_S))
        self.estimate_SK[game, self._arm_S] += gain_S / self._p_SK[game, self._arm_S]


def exp3p_bound(arms: int, rounds: int, delta: float) -> float:
    """5.15 sqrt(T K log(K / delta)), with probability 1 - delta (see `CumulativeExp3P`)."""
    return 5.15 * float(np.sqrt(rounds * arms * np.log(arms / delta)))


def price_regret_bound(
    price_T: FloatArray, demand_T: FloatArray, n_mean: float, alpha: float
) -> float:
    """What a price-taker loses at most to the best fixed allocation of mean n_mean.

    In round t the bins buy the best response n_t to the price, so for every fixed allocation x
    whose mean is at most n_mean, and any utilities f_t,

        f_t(x) - f_t(n_t) <= mu_t (mean of x - demand_t) <= -mu_t g_t,   g_t = demand_t - n_mean.

    With log mu moved by u_t = alpha g_t / n_mean (`LogPrice`) and exp(u) <= 1 + u + u^2 for u <= 1,
    the right sides sum to no more than

        n_mean (mu_1 - mu_end) / alpha + alpha / n_mean sum_t mu_t g_t^2,

    O(sqrt T) at alpha of the order 1 / sqrt(T), as mu and g are bounded. It is the argument of dual
    mirror descent with the entropy (Balseiro, Lu and Mirrokni, 2023), for utilities that are chosen
    by an adversary. The budget is overdrawn by a sum that telescopes,

        sum_t g_t = n_mean (log mu_end - log mu_1) / alpha,

    likewise O(sqrt T), before the allocation is projected to the exact budget.

    Args:
        price_T: mu_t of each round, and mu_end: [T + 1].
        demand_T: Mean rollouts bought in each round, [T].
        n_mean: Mean rollouts per prompt.
        alpha: Rate of the price; alpha (max demand - n_mean) / n_mean <= 1.
    """
    gap_T = demand_T - n_mean
    drift = n_mean * (price_T[0] - price_T[-1]) / alpha
    return float(drift + alpha / n_mean * (price_T[:-1] @ gap_T**2))
