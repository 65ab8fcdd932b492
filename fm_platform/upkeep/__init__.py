"""Upkeep of one FM_HOME: retention, and the ledger built again from the stores.

* `fm_platform.upkeep.plan`: `make_plan`: what retention would remove
* `fm_platform.upkeep.gc`: `collect`: removes it
"""
