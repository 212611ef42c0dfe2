"""What grows: a small look at a filesystem or at the memory, which the next one is compared with.

It only reads, within a bound of processor time and of entries, and says where that was too little.
One more thing that grows: a module here; `report.shares` compares two looks.
"""
