"""Debug regions: every block has guards, canaries and a place. Imported only when one is asked for.

The rules:

- A debug region counts as any other: the first `size` bytes of its range are a *shadow*, in which a cursor moves as it
  would without debug. So `used`, `available` and what is refused are the same. The blocks themselves lie behind it, in
  pages of their own.
- Behind the shadow a *frontier* only goes up. A block takes whole pages, ends as near to their end as its alignment
  lets it, and a page that nobody may touch comes next. What is left of its pages holds canaries.
- A writer has pages of its own, made usable as they are needed; a *twin* in the shadow keeps the count. What it did not
  fill is guarded when it is finished.
- What C frees by hooks, and NumPy by its handler, is guarded, and no address is handed out twice.
- Where the frontier has no room left the shadow itself serves, without guards, and as far as without debug.
- Everything takes the slow path, for a limit of -1; no fast path knows of debug regions.
- What was used and has ended is guarded, unless something points in. The range of a region that is gone stays in
  *quarantine* until 64 others came after it, so that stale pointers fault instead of reaching somebody else's memory.
- What is told of a block (`Block`, `Life`) refers to no memory and to no region, and so keeps nothing alive.
"""
