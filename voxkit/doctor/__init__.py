"""What `voxkit doctor` looks at: packages (`packages`), the official wheels of k2 and kaldifeat (`wheels`), the machine (`machine`)."""
