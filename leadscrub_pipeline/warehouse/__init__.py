"""The warehouse: tables, the engines that hold them, and the statements that fill and read them."""
