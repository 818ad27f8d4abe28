"""The measurements of `vividtalk evaluate`: one file for each kind of table or report that it prints."""
