"""The kinds of resources that can be declared: one object each, in the order of creation."""

from collections.abc import Sequence

from prefect_platform.configuration.automations.automations import Automations
from prefect_platform.configuration.blocks.blocks import Blocks
from prefect_platform.configuration.concurrency_limits import (
    ConcurrencyLimits,
    TagConcurrencyLimits,
)
from prefect_platform.configuration.core.resource import FileSection, ResourceType
from prefect_platform.configuration.deployments.deployment_resources import Deployments
from prefect_platform.configuration.variables import Variables
from prefect_platform.configuration.work_pools import WorkPools, WorkQueues

TYPES: Sequence[ResourceType] = (
    Variables(),
    ConcurrencyLimits(),
    TagConcurrencyLimits(),
    Blocks(),
    WorkPools(),
    WorkQueues(),
    Deployments(),
    Automations(),
)
SECTIONS: Sequence[FileSection] = [each for each in TYPES if isinstance(each, FileSection)]
"""Sections of platform.yaml. Queues are declared with their pool, deployments in prefect.yaml."""
