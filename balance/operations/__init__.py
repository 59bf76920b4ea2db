"""Work on whole balances: read, explain, compare with a recalculation, fill a fleet, remove what deleted groups leave.

Imports `protocol` and everything below. Changes a balance only by the protocol's rebuild. Never decodes requests: functions and
commands do that, and call it.
"""
