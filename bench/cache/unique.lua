-- Each URL once.
local base, count = os.time(), 0
request = function()
    count = count + 1
    return wrk.format("GET", "/unique/" .. base .. "-" .. count)
end
