"""Clusters of samples by their features, and what a method needs to know of each cluster."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

__all__ = ["Clusters", "cluster_ids", "described"]


@dataclass(frozen=True)
class Clusters:
    """Clusters of M samples.

    Args:
        members: int64 (M,), the cluster of each sample, in [0, K).
        counts: int64 (K,), samples of each.
        centroids: (K, D), means of their features.
        representatives: int64 (K,), position of the sample nearest to each centroid.
    """

    members: torch.Tensor
    counts: torch.Tensor
    centroids: torch.Tensor
    representatives: torch.Tensor


def cluster_ids(features: torch.Tensor, count: int, *, generator: torch.Generator) -> torch.Tensor:
    """Divide samples into clusters by mini-batch k-means.

    Args:
        features: (N, D), floating and finite.
        count: clusters; as many as there are samples, or more, means one each. Some may stay
            empty.
        generator: the first centroids and the mini-batches are drawn from it.

    Returns:
        int64 (N,), the cluster of each sample, on the CPU.

    Raises:
        ImportError: scikit-learn is missing.

    Example:
        >>> z = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> a, b, c, d = cluster_ids(z, 2, generator=torch.Generator().manual_seed(0)).tolist()
        >>> a == b, c == d, a == c
        (True, True, False)
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise ImportError("clusters need scikit-learn: pip install scikit-learn.") from error
    if count >= len(features):
        return torch.arange(len(features))
    rows = features.detach().float().cpu().numpy()
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    model = MiniBatchKMeans(
        min(count, len(rows)), n_init="auto", batch_size=4096, random_state=seed
    )
    with warnings.catch_warnings():
        # Fewer distinct samples than clusters: some stay empty, which is said above.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.fit(rows).labels_
    return torch.as_tensor(found, dtype=torch.int64)


def described(features: torch.Tensor, ids: torch.Tensor) -> Clusters:
    """Count, average and represent the clusters of samples; clusters without any are left out.

    Args:
        features: (M, D).
        ids: int64 (M,), any numbers, the cluster of each sample.

    Example:
        >>> z = torch.tensor([[0.0], [1.0], [1.5], [7.0]])
        >>> found = described(z, torch.tensor([4, 4, 4, 9]))
        >>> found.counts.tolist(), found.representatives.tolist()
        ([3, 1], [1, 3])
    """
    z = features.float().cpu()
    _, members, counts = torch.unique(ids.cpu(), return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), z.shape[1], dtype=torch.float64)
    centroids = sums.index_add_(0, members, z.double()) / counts.unsqueeze(1)
    centroids = centroids.float()
    distances = (z - centroids[members]).square().sum(1)
    by_distance = torch.argsort(distances, stable=True)
    grouped = by_distance[torch.argsort(members[by_distance], stable=True)]
    firsts = torch.cumsum(counts, 0) - counts
    return Clusters(members, counts, centroids, grouped[firsts])
