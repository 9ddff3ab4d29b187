"""What the planner calls things in a store. Names point to blobs; blobs say what else must be kept.

plan/<pipeline>                  the plan last compiled of that pipeline
tenant/<tenant>/<pipeline>       the plan that a tenant runs under that name
binding                          how all live plans are computed on this store's machine
costs/<machine>                  stage costs measured on a machine model, so that compiling again is fast
check/<machine>/<plan sha256>    the last golden check of a plan on a machine model
family/<structure>/<base>        a family of networks (sha256 of its structure and of its base network)
variant/<network>                how a network is kept (sha256 of the network)
exact/<network>                  its imported numbers, until its variant is verified
network/<name>                   a network that was added by itself, without a pipeline
precision/<machine>/<base>       faster ways of running a family, found on a machine model
gate/<machine>/<plan>/<network>  how a plan did with them (sha256 of the plan and of the network)
fused/<machine>                  which chains of numeric steps are faster as one graph on a machine model
"""

BINDING = "binding"
PLANS = "plan/"
TENANTS = "tenant/"
FAMILIES = "family/"
VARIANTS = "variant/"
EXACTS = "exact/"
NETWORKS = "network/"
PRECISIONS = "precision/"
GATES = "gate/"


def plan_name(pipeline: str) -> str:
    return f"{PLANS}{pipeline}"


def promoted_prefix(tenant: str) -> str:
    """Every name below it is a pipeline that this tenant runs."""
    return f"{TENANTS}{tenant}/"


def promoted_name(tenant: str, pipeline: str) -> str:
    return f"{promoted_prefix(tenant)}{pipeline}"


def costs_name(machine: str) -> str:
    return f"costs/{machine}"


def precisions_prefix(machine: str) -> str:
    return f"{PRECISIONS}{machine}/"


def precision_name(machine: str, base_sha256: str) -> str:
    return f"{precisions_prefix(machine)}{base_sha256}"


def gates_prefix(machine: str) -> str:
    return f"{GATES}{machine}/"


def gate_name(machine: str, plan_sha256: str, network_sha256: str) -> str:
    return f"{gates_prefix(machine)}{plan_sha256}/{network_sha256}"


def fused_name(machine: str) -> str:
    return f"fused/{machine}"


def check_name(machine: str, plan_sha256: str) -> str:
    return f"check/{machine}/{plan_sha256}"


def families_prefix(structure_sha256: str) -> str:
    """Every name below it is a family of networks of this structure."""
    return f"{FAMILIES}{structure_sha256}/"


def family_name(structure_sha256: str, base_sha256: str) -> str:
    return f"{families_prefix(structure_sha256)}{base_sha256}"


def variant_name(network_sha256: str) -> str:
    return f"{VARIANTS}{network_sha256}"


def network_name(name: str) -> str:
    return f"{NETWORKS}{name}"


def exact_name(network_sha256: str) -> str:
    return f"{EXACTS}{network_sha256}"
