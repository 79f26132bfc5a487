"""The numbers behind the dashboard: sales, failures and challenges by day, and what is so now.

==============  ======================================================================
``days``        days, in the site's time zone
``counting``    one day of the ledger, added up
``following``   which days have changed, and the periodic run that counts them
``challenges``  how many challenges were sent: counted in memory, written now and then
``latency``     times from claim to settlement, in bins that can be added up
``figures``     a period's numbers, as the dashboard shows them
``live``        what is so now: owed, undelivered, gas money
``charts``      charts as SVG, drawn here
``words``       numbers, dollars and days as people read them
==============  ======================================================================
"""
