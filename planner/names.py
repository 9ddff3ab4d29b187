"""What the planner calls things in a store. Names point to blobs; blobs say what else must be kept.

plan/<pipeline>                  the plan last compiled of that pipeline
tenant/<tenant>/<pipeline>       the plan that a tenant runs under that name
binding                          how all live plans are computed on this store's machine
costs/<machine>                  stage costs measured on a machine model, so that compiling again is fast
check/<machine>/<plan sha256>    the last golden check of a plan on a machine model
"""

BINDING = "binding"
PLANS = "plan/"
TENANTS = "tenant/"


def plan_name(pipeline: str) -> str:
    return f"{PLANS}{pipeline}"


def promoted_prefix(tenant: str) -> str:
    """Every name below it is a pipeline that this tenant runs."""
    return f"{TENANTS}{tenant}/"


def promoted_name(tenant: str, pipeline: str) -> str:
    return f"{promoted_prefix(tenant)}{pipeline}"


def costs_name(machine: str) -> str:
    return f"costs/{machine}"


def check_name(machine: str, plan_sha256: str) -> str:
    return f"check/{machine}/{plan_sha256}"
