-- A fragment of claim.sql: the order of turns.
account_priority DESC, turn, turn_of
