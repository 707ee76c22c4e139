"""Mathematics: shapes, relations, formulas; the symbolic worker's side and what may reach it."""
