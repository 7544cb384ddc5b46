"""The systems, each put together in one file that ends with its SYSTEM; the table of them is voxkit.system."""
