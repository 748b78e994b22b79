"""The surrogate prompt loss is zero on-policy, whatever the prompt's difficulty (method D6)."""

import pytest
import torch

VOCABULARY, LONGEST, BETA_KL = 50, 40, 0.001


def group(lengths, seed=0, correct=None):
    """Token log-probabilities that need a gradient, tokens of the group, its advantages."""
    torch.manual_seed(seed)
    logits = torch.randn(len(lengths), LONGEST, VOCABULARY, requires_grad=True)
    token = torch.randint(VOCABULARY, (len(lengths), LONGEST, 1))
    log_p = logits.log_softmax(-1).gather(-1, token).squeeze(-1)
    mask = (torch.arange(LONGEST) < torch.tensor(lengths)[:, None]).float()
    reward = torch.tensor([1.0] + [0.0] * (len(lengths) - 1)) if correct is None else correct
    advantage = (reward - reward.mean()) / (reward.std() + 1e-4)
    return logits, log_p, mask, advantage


def tokens(log_p, old_log_p, advantage, clip=0.2):
    """The negative clipped surrogate of each token (Eq. 6)."""
    ratio = (log_p - old_log_p).exp()
    unclipped, clipped = ratio * advantage[:, None], ratio.clip(1 - clip, 1 + clip)
    return -torch.minimum(unclipped, clipped * advantage[:, None])


def prompt_loss(token_loss, mask):
    """Mean over the tokens of each sequence, then over the group (Eq. 7)."""
    return ((token_loss * mask).sum(-1) / mask.sum(-1)).mean()


EQUAL, UNEQUAL = [20] * 8, [1, 3, 40, 17, 8, 29, 2, 36]


def drawn(kind, seed):
    """Lengths of a group of eight."""
    draw = torch.Generator().manual_seed(seed)
    size = (1,) if kind == "equal" else (8,)
    return torch.randint(1, LONGEST + 1, size, generator=draw).expand(8).tolist()


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_on_policy_it_is_zero_and_its_gradient_is_not(kind, theory_table):
    largest, least_gradient = 0.0, float("inf")
    for seed in range(50):
        correct = (torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
        if 0 < correct.sum() < 8:
            logits, log_p, mask, advantage = group(drawn(kind, seed), seed, correct)
            loss = prompt_loss(tokens(log_p, log_p.detach(), advantage), mask)
            largest = max(largest, abs(loss.item()))
            (gradient,) = torch.autograd.grad(loss, logits)
            least_gradient = min(least_gradient, gradient.norm().item())
    theory_table(f"surrogate on-policy, {kind} lengths: |loss|", largest, "<=", 1e-6)
    theory_table(f"surrogate on-policy, {kind} lengths: |grad|", least_gradient, ">=", 1e-2)


def test_so_an_easy_and_a_hard_prompt_look_alike(theory_table):
    """The adversary sees no difference between one right of eight and seven."""
    found = []
    for right in (1, 7):
        correct = torch.tensor([1.0] * right + [0.0] * (8 - right))
        _, log_p, mask, advantage = group(UNEQUAL, 0, correct)
        found.append(prompt_loss(tokens(log_p, log_p.detach(), advantage), mask).item())
    apart = abs(found[0] - found[1])
    theory_table("surrogate on-policy: 1 of 8 right against 7 of 8", apart, "<=", 1e-6)


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_off_policy_it_is_not(kind, theory_table):
    """Drift, in either direction of any size."""
    least = float("inf")
    for seed in range(20):
        _, log_p, mask, advantage = group(drawn(kind, seed), seed)
        for drift in (0.01, 0.1, 0.5):
            old = log_p.detach() + drift * torch.randn_like(log_p)
            least = min(least, abs(prompt_loss(tokens(log_p, old, advantage), mask).item()))
    theory_table(f"surrogate off-policy, {kind} lengths: least |loss|", least, ">", 1e-5)


def test_what_is_left_on_policy_is_length_and_the_divergence(theory_table):
    """A mean over tokens weighs by length; the KL to a reference is what it is."""
    _, log_p, mask, advantage = group(UNEQUAL)
    token_loss = tokens(log_p, log_p.detach(), advantage)
    by_token = abs(((token_loss * mask).sum() / mask.sum()).item())
    theory_table("surrogate on-policy, mean over tokens, unequal: |loss|", by_token, ">", 1e-2)
    _, equal_p, equal_mask, advantage = group(EQUAL)
    token_loss = tokens(equal_p, equal_p.detach(), advantage)
    by_token = abs(((token_loss * equal_mask).sum() / equal_mask.sum()).item())
    theory_table("surrogate on-policy, mean over tokens, equal: |loss|", by_token, "<=", 1e-6)
    apart = 0.3 * torch.randn_like(log_p)
    divergence = BETA_KL * (apart.exp() - apart - 1)
    token_loss = tokens(log_p, log_p.detach(), group(UNEQUAL)[3]) + divergence
    left = prompt_loss(token_loss, mask) - prompt_loss(divergence, mask)
    theory_table("surrogate on-policy with KL: |loss - beta KL|", abs(left.item()), "<=", 1e-6)
