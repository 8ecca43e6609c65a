"""Tables and points that users bring: read and written in many forms, without losing a digit.

Start with `points.read_points`, which reads points of any library as longitude and latitude, and
`table_files.read_table` and `write_table`; `part_readers.read_parts` and `part_writers.write_parts`
do the same for tables larger than memory.
"""
