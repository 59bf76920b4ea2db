"""Every interleaving of small worlds: stateless model checking of the product's own code.

A world is data (`world`, and the table of them in `worlds`). One execution runs it on the embedded engine, one step at a time,
each actor a greenlet (`execution`, `database`); what a step reads and writes is its footprint (`footprint`). An exploration
(`merging`; `paths` to check it) executes a world again and again until every interleaving that could end differently has been
seen, and has each judged (`verdict`). What fails is told as a trace (`trace`).
"""
