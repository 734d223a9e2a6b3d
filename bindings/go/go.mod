module skillcache

go 1.22
