-- A fragment: the priority that staff gave the account `account`, an expression.
(SELECT a.job_priority FROM access_account a WHERE a.id = {account})
