"""What people see and say: engines that answer, the pages on which people judge. Imports storage."""
