"""The report page: results of one or more runs as one offline HTML file."""
