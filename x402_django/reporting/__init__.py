"""What leaves the ledger for a bookkeeper: records of a period, in files.

===============  ============================================================================
``records``      receipts and gas as flat records, read in the order of time, few at a time
``text``         CSV and JSON Lines
``workbook``     XLSX
``beancount``    double entry
``exports``      what can be exported in which format, and how such a file is named
===============  ============================================================================
"""
