"""What an environment says of a rank."""

from __future__ import annotations

import pytest

from ipkernel_ext.nursery.mpi import Rank, rank_of

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-h-77@1",
    "PMIX_RANK": "1",
}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        ({"PMI_RANK": "3", "PMI_SIZE": "8", "PMI_FD": "9"}, Rank(3, 8, "")),
        ({"PMI_RANK": "3", "PMI_SIZE": "8", "PMI_JOBID": "12.0"}, Rank(3, 8, "12.0")),
        (OPEN_MPI, Rank(1, 4, "prterun-h-77@1")),
        ({**OPEN_MPI, "SLURM_STEP_NUM_TASKS": "2"}, Rank(1, 4, "prterun-h-77@1")),
        (
            {"PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.pmix.12.0", "SLURM_STEP_NUM_TASKS": "2"},
            Rank(0, 2, "slurm.pmix.12.0"),
        ),
        ({"PMIX_RANK": "0", "PMIX_NAMESPACE": "x"}, None),
        ({"PMI_RANK": "3"}, None),
        ({"PMI_RANK": "3", "PMI_SIZE": "3"}, None),
        ({"PMI_RANK": "-1", "PMI_SIZE": "3"}, None),
        ({"PMI_RANK": "one", "PMI_SIZE": "3"}, None),
    ],
)
def test_rank_of(environment: dict[str, str], rank: Rank | None) -> None:
    assert rank_of(environment) == rank
